package kratos

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"testing"
	"time"

	etcd "github.com/go-kratos/kratos/contrib/registry/etcd/v2"
	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/errors"
	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	kgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	log.SetLogger(log.NewStdLogger(io.Discard))
	world.Main(m, map[string]func([]string){
		"server": func(args []string) {
			client, err := clientv3.New(clientv3.Config{Endpoints: args[:1]})
			world.Check(err)
			app := kratos.New(kratos.Name("user"), kratos.Server(serverOf(args[1])),
				kratos.Registrar(etcd.New(client)))
			world.Check(app.Run())
		},
		"announced server": func(args []string) {
			world.Check(newApp(world.RegistryAt(args[0]), serverOf(args[1])).Run())
		},
	})
}

// serverOf returns the server of a kratos application.
func serverOf(name string) *kgrpc.Server {
	server := kgrpc.NewServer(kgrpc.Address("127.0.0.1:0"), kgrpc.Middleware(recovery.Recovery()))
	basic.RegisterGreeterServer(server, &world.Greeter{Name: name})

	return server
}

// newApp returns a kratos application that this project announces, without a
// registrar. docs/migration.md sends readers here.
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
			// until callers have noticed: kratos stops the server next
			defer time.Sleep(time.Second)

			return announced.Withdraw(ctx)
		}),
	)
}

// newServer returns one of our servers with kratos' middleware.
// docs/migration.md has the same lines.
func newServer(registry *runtime.Registry) *runtime.Server {
	server := registry.NewServer(kgrpc.NewServer(
		kgrpc.Endpoint(new(url.URL)), // without one, kratos panics at a stream in a server that it has not started
		kgrpc.Middleware(recovery.Recovery()),
	).Server)

	return server
}

// middlewares returns an interceptor that calls kratos' middleware for clients.
func middlewares(all ...middleware.Middleware) grpc.UnaryClientInterceptor {
	return func(
		ctx context.Context,
		method string,
		req, reply any,
		conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker,
		opts ...grpc.CallOption,
	) error {
		handle := func(ctx context.Context, req any) (any, error) {
			return reply, invoke(ctx, method, req, reply, conn, opts...)
		}
		_, err := middleware.Chain(all...)(handle)(ctx, req)

		return err
	}
}

// dial returns a connection of kratos' own client.
func dial(t *testing.T, w *world.World) *grpc.ClientConn {
	t.Helper()

	conn, err := kgrpc.DialInsecure(w.Context(), kgrpc.WithEndpoint("discovery:///user"),
		kgrpc.WithDiscovery(theirs(t, w)))
	world.Must(t, err)

	return conn
}

// ends returns both kinds of a migration: kratos' servers and callers, and
// ours.
func ends(t *testing.T, w *world.World) (from, to migrationtest.Kind) {
	from = migrationtest.Kind{
		Serve: w.Programs(user.Key, "server"),
		Dial:  world.Callers(func() *grpc.ClientConn { return dial(t, w) }),
	}

	to = w.Ours(user)
	to.Serve = func(name string) (leave, stop func()) {
		return nil, w.PublishOn(newServer(w.NewRegistry()), &world.Greeter{Name: name}, user).Stop
	}

	return from, to
}

// The servers and callers of a service move from kratos to this project under
// load.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		return ends(t, world.New(t))
	})
}

// Servers stay on kratos, and this project announces them. Their callers move.
func TestRoadWithTheirApp(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)
		from, to = ends(t, w)
		to.Serve = w.Programs(user.Key, "announced server")

		return from, to
	})
}

// asked is a server that does what its caller requests.
type asked struct {
	basic.UnimplementedGreeterServer
}

func (asked) SayHello(ctx context.Context, request *basic.HelloRequest) (*basic.HelloReply, error) {
	switch request.GetName() {
	case "a panic":
		panic("a bug")
	case "an error":
		err := errors.NotFound("NO_SUCH_USER", "no such user")
		return nil, err.WithMetadata(map[string]string{"id": "7"})

	case "the time left":
		deadline, ok := ctx.Deadline()
		soon := ok && time.Until(deadline) <= time.Second

		return &basic.HelloReply{Message: fmt.Sprint(soon)}, nil
	}

	return &basic.HelloReply{}, nil
}

// Errors, panics and deadlines are the same as with kratos, because kratos
// still makes the gRPC server. An error is a status with details: callers read
// its reason and metadata although the connection has no code of kratos.
// kratos' client middleware works in our connection.
func TestErrorsAreKept(t *testing.T) {
	w := world.New(t)
	w.PublishOn(newServer(w.NewRegistry()), asked{}, user)

	var noted []string
	note := func(next middleware.Handler) middleware.Handler {
		return func(ctx context.Context, req any) (any, error) {
			reply, err := next(ctx, req)
			noted = append(noted, fmt.Sprintf("%T, %T, %v", req, reply, status.Code(err)))

			return reply, err
		}
	}

	ours := w.Conn(user, grpc.WithChainUnaryInterceptor(middlewares(note)))
	for caller, conn := range map[string]*grpc.ClientConn{
		"their caller": dial(t, w),
		"our caller":   ours,
	} {
		ask := func(what string) (string, *errors.Error) {
			reply, err := basic.NewGreeterClient(conn).SayHello(w.Context(),
				&basic.HelloRequest{Name: what})
			return reply.GetMessage(), errors.FromError(err)
		}

		_, err := ask("a panic")
		if err.GetReason() != "UNKNOWN" || err.GetCode() != 500 {
			t.Errorf("%s: a panic: %v, want the reason UNKNOWN and the code 500", caller, err)
		}

		_, err = ask("an error")
		if !errors.IsNotFound(err) ||
			err.GetReason() != "NO_SUCH_USER" ||
			err.GetMetadata()["id"] != "7" {
			t.Errorf("%s: an error: %v, want NotFound with its reason and metadata", caller, err)
		}

		if soon, err := ask("the time left"); soon != "true" {
			t.Errorf("%s: a call has at most a second left: %q, %v; want true", caller, soon, err)
		}
	}

	if len(noted) != 3 || noted[2] != "*basic.HelloRequest, *basic.HelloReply, OK" {
		t.Errorf("the middleware saw %q, want 3 calls, the last one OK", noted)
	}

	// A stream works, too. Without an endpoint in newServer, kratos'
	// interceptor would panic.
	stream, err := grpc_health_v1.NewHealthClient(ours).Watch(w.Context(),
		&grpc_health_v1.HealthCheckRequest{})
	world.Must(t, err)

	if _, err := stream.Recv(); err != nil {
		t.Errorf("a stream: %v, want no error", err)
	}
}
