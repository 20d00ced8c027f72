package gomicro

import (
	"context"
	"testing"
	"time"

	grpcclient "github.com/go-micro/plugins/v4/client/grpc"
	"github.com/go-micro/plugins/v4/registry/etcd"
	grpcserver "github.com/go-micro/plugins/v4/server/grpc"
	"go-micro.dev/v4"
	"go-micro.dev/v4/client"
	microregistry "go-micro.dev/v4/registry"
	"go-micro.dev/v4/selector"
	"go-micro.dev/v4/server"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	world.Main(m, map[string]func([]string){
		"server": func(args []string) { run(newService(args[0]), &Greeter{args[1]}) },
		"announced server": func(args []string) { // a go-micro server that this project announces
			service, err := announced(context.Background(), world.RegistryAt(args[0]), args[0])
			world.Check(err)
			run(service, &Greeter{args[1]})
		},
	})
}

// Greeter is a go-micro implementation. The name of its type is the service's
// name.
type Greeter struct{ name string }

// SayHello answers with the server's name.
func (g *Greeter) SayHello(
	_ context.Context,
	request *basic.HelloRequest,
	reply *basic.HelloReply,
) error {
	if fail := failures[request.GetName()]; fail != nil {
		return fail()
	}

	reply.Message = g.name

	return nil
}

// newService returns a go-micro service that speaks gRPC.
func newService(etcdAddr string, opts ...micro.Option) micro.Service {
	return micro.NewService(append([]micro.Option{
		micro.Server(grpcserver.NewServer()), micro.Client(grpcclient.NewClient()),
		micro.Registry(etcd.NewRegistry(microregistry.Addrs(etcdAddr))),
		micro.Name("user"), micro.Address("127.0.0.1:0"), micro.RegisterTTL(
			30 * time.Second), micro.RegisterInterval(10 * time.Second),
	}, opts...)...)
}

// run is the main function of a go-micro server.
func run(s micro.Service, impl *Greeter) {
	world.Check(micro.RegisterHandler(s.Server(), impl))
	world.Check(s.Run())
}

// announced returns a go-micro server that this project announces.
// docs/migration.md sends readers here.
func announced(
	ctx context.Context,
	registry *runtime.Registry,
	etcdAddr string,
) (service micro.Service, err error) {
	// this gRPC server serves nothing: go-micro's server does
	announced := registry.NewServer(grpc.NewServer())
	announced.Publish(user)

	service = newService(etcdAddr,
		micro.AfterStart(func() error {
			return announced.Announce(ctx, service.Server().Options().Address)
		}),
		micro.BeforeStop(func() error {
			// go-micro's server ends as soon as this function returns. Callers
			// need a moment to notice the withdrawal.
			defer time.Sleep(time.Second)

			return announced.Withdraw(ctx)
		}),
	)

	err = service.Server().Init(server.Registry(microregistry.NewMemoryRegistry()))

	return service, err
}

// caller is go-micro's own client.
type caller struct{ client.Client }

func newCaller(r microregistry.Registry) caller {
	return caller{grpcclient.NewClient(client.Registry(r),
		client.Selector(selector.NewSelector(selector.Registry(r))))}
}

func (c caller) sayHello(ctx context.Context, name string) (string, error) {
	var reply basic.HelloReply
	err := c.Call(ctx, c.NewRequest("user", "Greeter.SayHello", &basic.HelloRequest{Name: name}),
		&reply)

	return reply.GetMessage(), err
}

// oldKind returns go-micro's servers and callers. A go-micro server ends at
// once, which fails calls that have just chosen it. So the test deletes the
// server's key first.
func oldKind(t *testing.T, w *world.World) migrationtest.Kind {
	return migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			process, key := w.StartServer(user.Key, "server", w.EtcdAddr(), name)
			return func() { w.Remove(key) }, process.Terminate
		},
		Dial: func() (migrationtest.Call, func()) {
			old := newCaller(theirs(w))
			watches := w.Etcd.Calls().Count(etcdtest.Watch, user.Key)

			call := func(ctx context.Context) (string, error) { return old.sayHello(ctx, "") }
			if _, err := call(w.Context()); err != nil {
				t.Error(err)
			}

			// The caller begins to watch up to 0.1 s later, and notices earlier
			// changes only after a minute.
			err := w.Etcd.Calls().Wait(w.Context(), etcdtest.Watch, user.Key, watches+1)
			if err != nil {
				t.Error(err)
			}

			return call, func() {}
		},
	}
}

// newCallers returns our callers.
func newCallers(w *world.World) func() (migrationtest.Call, func()) {
	return world.Callers(func() *grpc.ClientConn {
		return w.Conn(user, grpc.WithChainUnaryInterceptor(microErrors))
	})
}

// The servers and callers of a service move from go-micro to this project under
// load.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)

		return oldKind(t, w), migrationtest.Kind{
			Dial: newCallers(w),
			Serve: func(name string) (leave, stop func()) {
				impl := greeter{micro: &Greeter{name}}
				return nil, w.PublishOn(newServer(w.NewRegistry(), impl), impl, user).Stop
			}}
	})
}

// Servers stay on go-micro, and this project announces them. Their callers
// move.
func TestRoadWithTheirServer(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)

		return oldKind(t, w), migrationtest.Kind{
			Dial:  newCallers(w),
			Serve: w.Programs(user.Key, "announced server"),
		}
	})
}
