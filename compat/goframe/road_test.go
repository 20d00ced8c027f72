package goframe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"

	etcd "github.com/gogf/gf/contrib/registry/etcd/v2"
	"github.com/gogf/gf/contrib/rpc/grpcx/v2"
	"github.com/gogf/gf/v2/errors/gcode"
	"github.com/gogf/gf/v2/errors/gerror"
	"github.com/gogf/gf/v2/frame/g"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	g.Log().SetStdoutPrint(false)
	world.Main(m, map[string]func([]string){
		"server":         func(args []string) { run(args[0], &world.Greeter{Name: args[1]}) },
		"failing server": func(args []string) { run(args[0], failing{}) },
		"caller": func(args []string) { // calls until it is killed, and prints each server once
			g.Log().SetStdoutPrint(true)
			grpcx.Resolver.Register(etcd.New(args[0]))

			conn := grpcx.Client.MustNewGrpcClientConn("user")
			for printed := map[string]bool{}; ; {
				name, err := world.SayHello(context.Background(), conn)
				if err == nil && !printed[name] {
					printed[name] = true
					println("answered by", name)
				}
			}
		},
	})
}

// run is the main function of a GoFrame server.
func run(etcdAddrs string, impl basic.GreeterServer) {
	grpcx.Resolver.Register(etcd.New(etcdAddrs))

	c := grpcx.Server.NewConfig()
	c.Name = "user"
	c.Address = "127.0.0.1:0"
	s := grpcx.Server.New(c)
	basic.RegisterGreeterServer(s.Server, impl)
	s.Run()
}

// newServer returns one of our servers. docs/migration.md has the same lines.
func newServer(registry *runtime.Registry) *runtime.Server {
	c := grpcx.Server.NewConfig() // the log settings of config.yaml, as before
	server := registry.NewServer(grpcx.Server.New(c).Server)
	c.LogStdout = false

	return server
}

// newConn returns one of our connections. docs/migration.md has the same
// options.
func newConn(w *world.World) *grpc.ClientConn {
	return w.Conn(user,
		grpcx.Client.ChainUnary(grpcx.Client.UnaryTracing, grpcx.Client.UnaryError),
		grpcx.Client.ChainStream(grpcx.Client.StreamTracing),
	)
}

// dialTheirs returns a connection of GoFrame's own client.
func dialTheirs(t *testing.T, w *world.World) *grpc.ClientConn {
	t.Helper()

	conn, err := grpcx.Client.NewGrpcClientConn("user",
		grpc.WithResolvers(grpcx.Resolver.New(theirs(w))))
	world.Must(t, err)
	t.Cleanup(func() { _ = conn.Close() })

	return conn
}

// The servers and callers of a service move from GoFrame to this project under
// load. SIGTERM, which GoFrame handles, stops each server.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)
		from = migrationtest.Kind{
			Serve: w.Programs(user.Key, "server"),
			Dial:  world.Callers(func() *grpc.ClientConn { return dialTheirs(t, w) }),
		}

		to = migrationtest.Kind{Dial: world.Callers(func() *grpc.ClientConn { return newConn(w) })}
		to.Serve = func(name string) (leave, stop func()) {
			impl := &world.Greeter{Name: name}
			return nil, w.PublishOn(newServer(w.NewRegistry()), impl, user).Stop
		}

		return from, to
	})
}

// failing is a server that fails with the error that its caller requests.
type failing struct {
	basic.UnimplementedGreeterServer
}

// failures maps requests to errors.
var failures = map[string]func() error{
	"a code of GoFrame's": func() error {
		return gerror.NewCode(gcode.CodeNotFound, "no such user")
	},
	"a user's own code": func() error {
		return gerror.NewCode(gcode.New(1001, "", nil), "out of stock")
	},
	"a code that is wrapped": func() error {
		return gerror.Wrap(gerror.NewCode(gcode.New(1001, "", nil), "out of stock"), "order")
	},
	"a status":      func() error { return status.Error(codes.ResourceExhausted, "slower") },
	"a plain error": func() error { return errors.New("plain") },
	"a panic":       func() error { panic("a bug") },
}

func (failing) SayHello(_ context.Context, request *basic.HelloRequest) (*basic.HelloReply, error) {
	return nil, failures[request.GetName()]()
}

// answers returns the error that a caller receives for each failure.
func answers(w *world.World, conn grpc.ClientConnInterface) map[string]string {
	seen := make(map[string]string, len(failures))
	for name := range failures {
		_, err := basic.NewGreeterClient(conn).SayHello(w.Context(),
			&basic.HelloRequest{Name: name})
		seen[name] = fmt.Sprintf("status %v, gcode %d, %v", status.Code(err),
			gerror.Code(err).Code(), err)
	}

	return seen
}

// Callers receive the same errors as from GoFrame, also for panics: GoFrame
// still makes the gRPC server, and our connection has GoFrame's interceptors.
func TestErrorsAreKept(t *testing.T) {
	w := world.New(t)
	process, _ := w.StartServer(user.Key, "failing server", w.EtcdAddr())
	theirs := dialTheirs(t, w)
	ours := newConn(w)

	want := answers(w, theirs)
	if want["a panic"] != "status Unknown, gcode 2, panic recovered: a bug" {
		t.Errorf("GoFrame returns %q for a panic, want the gcode 2, as in earlier versions",
			want["a panic"])
	}

	compare := func(step string, conn grpc.ClientConnInterface) {
		t.Helper()

		if got := answers(w, conn); !maps.Equal(got, want) {
			t.Errorf("%s: the errors are %q, want %q", step, got, want)
		}
	}

	compare("our caller, their server", ours)

	w.PublishOn(newServer(w.NewRegistry()), failing{}, user)
	process.Terminate()
	compare("our caller, our server", ours)
	compare("their caller, our server", theirs)
}
