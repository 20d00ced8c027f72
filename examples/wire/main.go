// Command wire puts a server and a client together with github.com/google/wire. Run it from the
// directory above:
//
//	go run ./wire
//
// wire.go says what the application is made of, with the generated constructor as it is, and
// wire_gen.go is what wire makes of it:
//
//	go tool wire ./wire
//
// The example starts the application on an etcd of its own, makes one call through it, and stops it. It
// exits with 1 when the call fails or something is left in etcd.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// closeTimeout bounds how long the application waits for etcd as it ends.
const closeTimeout = 5 * time.Second

// application is what wire builds.
type application struct {
	Server *runtime.Server
	Client greeterv1.GreeterServiceClient
}

func newEtcdClient(cfg clientv3.Config) (*clientv3.Client, func(), error) {
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	return client, func() { client.Close() }, nil
}

func newRegistry(client *clientv3.Client) (*runtime.Registry, func()) {
	registry := runtime.NewRegistry(client)
	return registry, func() {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			slog.Error("close the registry", "error", err)
		}
	}
}

// dialOptions are those of all clients. Plaintext is said aloud: there is no default.
func dialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
}

func newServer(registry *runtime.Registry) *runtime.Server {
	server := registry.NewServer(grpc.NewServer())
	greeterv1.RegisterGreeterServiceServerToEtcd(server, greeter{})
	return server
}

type greeter struct {
	greeterv1.UnimplementedGreeterServiceServer
}

func (greeter) SayHello(_ context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Text: "hello, " + req.GetName()}, nil
}

func main() { show.Main("wire", tell) }

func tell(ctx context.Context, stage *show.Stage) error {
	if err := run(ctx, stage); err != nil {
		return err
	}
	return stage.NothingLeft(ctx)
}

// run is the application's life.
func run(ctx context.Context, stage *show.Stage) error {
	app, cleanup, err := newApplication(stage.Etcd.Config())
	if err != nil {
		return err
	}
	defer cleanup()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- app.Server.Serve(serving, listener) }()
	reply, err := app.Client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "wire"})
	stop()
	if err := errors.Join(err, <-ended); err != nil {
		return err
	}
	stage.Say("the application was started, called and stopped: %s", reply.GetText())
	return nil
}
