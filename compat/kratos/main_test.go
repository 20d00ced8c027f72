package kratos

import (
	"context"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	etcd "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	kgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	log.SetLogger(log.NewStdLogger(io.Discard))
	world.Main(m, map[string]func([]string){
		"server":           func(args []string) { runTheirs(args[0], &world.Greeter{Name: args[1]}) },
		"announced server": func(args []string) { runAnnounced(args[0], &world.Greeter{Name: args[1]}) },
		"bare server":      func(args []string) { runBare(args[0]) },
	})
}

// newClient returns an etcd client for a process of its own.
func newClient(etcdAddr string) *clientv3.Client {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdAddr}})
	if err != nil {
		panic(err)
	}
	return client
}

// runTheirs is the main function of an application of kratos'.
func runTheirs(etcdAddr string, impl basic.GreeterServer) {
	server := kgrpc.NewServer(kgrpc.Address("127.0.0.1:0"), kgrpc.Middleware(recovery.Recovery()))
	basic.RegisterGreeterServer(server, impl)
	app := kratos.New(kratos.Name("user"), kratos.Server(server), kratos.Registrar(etcd.New(newClient(etcdAddr))))
	if err := app.Run(); err != nil {
		panic(err)
	}
}

// runAnnounced is the main function of an application of kratos' that this project announces.
func runAnnounced(etcdAddr string, impl basic.GreeterServer) {
	server := kgrpc.NewServer(kgrpc.Address("127.0.0.1:0"), kgrpc.Middleware(recovery.Recovery()))
	basic.RegisterGreeterServer(server, impl)
	if err := newApp(runtime.NewRegistry(newClient(etcdAddr)), server).Run(); err != nil {
		panic(err)
	}
}

// runBare is the main function of a gRPC server of kratos' that kratos has not started.
func runBare(addr string) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		panic(err)
	}
	println("listening on", listener.Addr().String())
	if err := kgrpc.NewServer().Server.Serve(listener); err != nil {
		panic(err)
	}
}

// newApp returns such an application, in the lines of docs/migration.md. It has no registrar.
func newApp(registry *runtime.Registry, server *kgrpc.Server) *kratos.App {
	announced := registry.NewServer(server.Server)
	announced.Publish(user)
	return kratos.New(
		kratos.Server(server),
		kratos.AfterStart(func(ctx context.Context) error {
			endpoint, err := server.Endpoint()
			if err != nil {
				return err
			}
			return announced.Announce(ctx, endpoint.Host)
		}),
		kratos.BeforeStop(func(ctx context.Context) error {
			defer time.Sleep(time.Second) // kratos stops the server next: let callers hear of it first
			return announced.Withdraw(ctx)
		}),
	)
}

// newServer returns a server of ours that has kratos' middleware, in the lines of docs/migration.md.
func newServer(registry *runtime.Registry) *runtime.Server {
	server := registry.NewServer(kgrpc.NewServer(
		kgrpc.Endpoint(new(url.URL)), // without one, kratos panics at a stream in a server that it has not started
		kgrpc.Middleware(recovery.Recovery()),
	).Server)
	return server
}

// middlewares returns an interceptor that calls kratos' middleware for clients.
func middlewares(all ...middleware.Middleware) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		_, err := middleware.Chain(all...)(func(ctx context.Context, req any) (any, error) {
			return reply, invoke(ctx, method, req, reply, conn, opts...)
		})(ctx, req)
		return err
	}
}
