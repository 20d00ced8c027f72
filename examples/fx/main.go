// Command fx puts a server and a client together with go.uber.org/fx. Run it from the directory
// above:
//
//	go run ./fx
//
// The generated constructors are provided as they are: they take a registry and dial options, and
// return a client and an error. The registry and the server end with the application, in the right
// order. The example starts the application on an etcd of its own, makes one call through it, and stops it. It exits
// with 1 when the call fails or something is left in etcd.
package main

import (
	"context"
	"errors"
	"net"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/fx"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/examples/internal/show"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// Module is what the application is made of. It needs a clientv3.Config.
var Module = fx.Module("greeter",
	fx.Provide(
		newEtcdClient,
		newRegistry,
		fx.Annotate(plaintext, fx.ResultTags(`group:"dial"`)),
		// As generated: its dial options are those of the group.
		fx.Annotate(greeterv1.NewGreeterServiceClientFromEtcd, fx.ParamTags(``, `group:"dial"`)),
		newGreeter,
	),
	fx.Invoke(serve),
)

func newEtcdClient(lifecycle fx.Lifecycle, cfg clientv3.Config) (*clientv3.Client, error) {
	client, err := clientv3.New(cfg)
	if err == nil {
		lifecycle.Append(fx.StopHook(client.Close))
	}
	return client, err
}

func newRegistry(lifecycle fx.Lifecycle, client *clientv3.Client) *runtime.Registry {
	registry := runtime.NewRegistry(client)
	lifecycle.Append(fx.StopHook(registry.Close))
	return registry
}

// plaintext is said aloud: there is no default.
func plaintext() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

// serve has the server run from the start of the application to its end.
func serve(lifecycle fx.Lifecycle, shutdown fx.Shutdowner, registry *runtime.Registry, impl greeterv1.GreeterServiceServer) {
	server := registry.NewServer(grpc.NewServer())
	greeterv1.RegisterGreeterServiceServerToEtcd(server, impl)
	serving, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	lifecycle.Append(fx.Hook{
		OnStart: func(context.Context) error {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			go func() {
				err := server.Serve(serving, listener)
				ended <- err
				if err != nil && serving.Err() == nil {
					_ = shutdown.Shutdown(fx.ExitCode(1)) // it fails where the application ends already
				}
			}()
			return nil
		},
		OnStop: func(context.Context) error {
			stop() // Serve drains, and is bounded by itself
			return <-ended
		},
	})
}

type greeter struct {
	greeterv1.UnimplementedGreeterServiceServer
}

func newGreeter() greeterv1.GreeterServiceServer { return greeter{} }

func (greeter) SayHello(_ context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Text: "hello, " + req.GetName()}, nil
}

func main() { show.Main("fx", tell) }

func tell(ctx context.Context, stage *show.Stage) (err error) {
	var client greeterv1.GreeterServiceClient
	app := fx.New(fx.NopLogger, fx.Supply(stage.Etcd.Config()), Module, fx.Populate(&client))
	if err := app.Start(ctx); err != nil {
		return err
	}
	reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{Name: "fx"})
	if err := errors.Join(err, app.Stop(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	stage.Say("the application was started, called and stopped: %s", reply.GetText())
	return stage.NothingLeft(ctx)
}
