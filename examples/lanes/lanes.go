// Package lanes tests a branch among the servers that everyone uses: calls with its lane reach it, through
// a server in between that knows nothing of the branch. Run it from the directory above:
//
//	go run . lanes
//
// It starts an etcd, two greeters and a front that calls them, then a greeter of the branch "pr-7". It exits
// with 1 when calls do not go where they should.
package lanes

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// config makes each value of the metadata "lane" a lane.
const config = `{"loadBalancingConfig":[{"etcd":{"route":[{"label":"lane"}]}}]}`

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// Example is what the command in the directory above runs.
var Example = show.Example{Name: "lanes", Tell: tell}

func tell(ctx context.Context, stage *show.Stage) error {
	servers, err := stage.Registry()
	if err != nil {
		return err
	}
	for _, name := range []string{"main-1", "main-2"} {
		if _, err := stage.Greeter(ctx, name, servers); err != nil {
			return err
		}
	}
	if err := servers.SetServiceConfig(ctx, greeterv1.GreeterService_EtcdServiceDesc.Key, config); err != nil {
		return err
	}
	client, stop, err := serveFront(ctx, stage)
	if err != nil {
		return err
	}
	defer stop()
	lane := runtime.WithLane(ctx, "pr-7")
	if err := goTo(lane, stage, client, "calls with the lane pr-7, which has no server yet", "main-1", "main-2"); err != nil {
		return err
	}
	branch, err := stage.Greeter(ctx, "branch", servers, runtime.WithMetadata("lane", "pr-7"))
	if err != nil {
		return err
	}
	if err := goTo(lane, stage, client, "calls with the lane, once it has one", "branch"); err != nil {
		return err
	}
	if err := goTo(ctx, stage, client, "all other calls", "main-1", "main-2"); err != nil {
		return err
	}
	if err := branch.Stop(); err != nil {
		return err
	}
	return goTo(lane, stage, client, "calls with the lane, when the branch is gone", "main-1", "main-2")
}

// goTo waits until calls go to exactly the named servers, and says where they go.
func goTo(ctx context.Context, stage *show.Stage, client greeterv1.GreeterServiceClient, title string, servers ...string) error {
	err := stage.Until(ctx, title, func(ctx context.Context) (bool, error) {
		shares, err := show.Count(ctx, 20, show.Greet(client))
		return shares.Only(servers...), err
	})
	if err != nil {
		return err
	}
	shares, err := show.Count(ctx, 1000, show.Greet(client))
	if err != nil {
		return err
	}
	if !shares.Only(servers...) {
		return fmt.Errorf("%s went to %v", title, shares)
	}
	stage.Say("%s: %v", title, shares)
	return nil
}

// front calls the greeters with the context of the call that it handles, as servers usually do.
type front struct {
	greeterv1.UnimplementedGreeterServiceServer
	greeters greeterv1.GreeterServiceClient
}

func (f front) SayHello(ctx context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return f.greeters.SayHello(ctx, req)
}

// serveFront serves a front under a key of its own, and returns a client of it. Its interceptor CarryLane is all
// that it needs for lanes.
func serveFront(ctx context.Context, stage *show.Stage) (client greeterv1.GreeterServiceClient, stop func(), err error) {
	registry, err := stage.Registry()
	if err != nil {
		return nil, nil, err
	}
	greeters, err := greeterv1.NewGreeterServiceClientFromEtcd(registry, plaintext)
	if err != nil {
		return nil, nil, err
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(runtime.CarryLane))
	greeterv1.RegisterGreeterServiceServer(server, front{greeters: greeters})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener) // ends by Stop
	}()
	stop = func() { server.Stop(); <-done }
	if _, err := registry.Register(ctx, "front", runtime.Endpoint{Instance: "front", Addr: listener.Addr().String()}); err != nil {
		stop()
		return nil, nil, err
	}
	desc := greeterv1.GreeterService_EtcdServiceDesc
	desc.Key = "front"
	conn, err := registry.NewClient(&desc, plaintext)
	if err != nil {
		stop()
		return nil, nil, err
	}
	return greeterv1.NewGreeterServiceClient(conn), stop, nil
}
