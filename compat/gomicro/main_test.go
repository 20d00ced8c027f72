package gomicro

import (
	"context"
	"os"
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
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	for _, name := range []string{"ETCD_USERNAME", "ETCD_PASSWORD", "MICRO_REGISTRY_ADDRESS"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	world.Main(m, map[string]func([]string){
		"server":           func(args []string) { run(newService(args[0]), &Greeter{args[1]}) },
		"announced server": func(args []string) { announce(args[0], &Greeter{args[1]}) },
		"caller":           func(args []string) { call(args[0], args[1]) },
	})
}

// Greeter is an implementation as go-micro has it. The name of its type is that of the service.
type Greeter struct{ name string }

// SayHello answers with the server's name.
func (g *Greeter) SayHello(_ context.Context, request *basic.HelloRequest, reply *basic.HelloReply) error {
	if fail := failures[request.GetName()]; fail != nil {
		return fail()
	}
	reply.Message = g.name
	return nil
}

// newService returns a service of go-micro's that speaks gRPC.
func newService(etcdAddr string, opts ...micro.Option) micro.Service {
	return micro.NewService(append([]micro.Option{
		micro.Server(grpcserver.NewServer()), micro.Client(grpcclient.NewClient()),
		micro.Registry(etcd.NewRegistry(microregistry.Addrs(etcdAddr))),
		micro.Name("user"), micro.Address("127.0.0.1:0"), micro.RegisterTTL(30 * time.Second), micro.RegisterInterval(10 * time.Second),
	}, opts...)...)
}

// run is the main function of a server of go-micro's.
func run(s micro.Service, impl *Greeter) {
	if err := micro.RegisterHandler(s.Server(), impl); err != nil {
		panic(err)
	}
	if err := s.Run(); err != nil {
		panic(err)
	}
}

// announce is the main function of a server of go-micro's that this project announces.
func announce(etcdAddr string, impl *Greeter) {
	etcdClient, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdAddr}})
	if err != nil {
		panic(err)
	}
	service, err := announced(context.Background(), runtime.NewRegistry(etcdClient), etcdAddr)
	if err != nil {
		panic(err)
	}
	run(service, impl)
}

// announced returns such a server, in the lines of docs/migration.md.
func announced(ctx context.Context, registry *runtime.Registry, etcdAddr string) (service micro.Service, err error) {
	announced := registry.NewServer(grpc.NewServer()) // it serves nothing: go-micro's server does
	announced.Publish(user)
	service = newService(etcdAddr,
		micro.AfterStart(func() error { return announced.Announce(ctx, service.Server().Options().Address) }),
		micro.BeforeStop(func() error {
			defer time.Sleep(time.Second) // go-micro's server ends at once: let callers hear of it first
			return announced.Withdraw(ctx)
		}),
	)
	err = service.Server().Init(server.Registry(microregistry.NewMemoryRegistry()))
	return service, err
}

// call is the main function of a caller of go-micro's. It calls as long as it lives.
func call(etcdAddr, what string) {
	caller := newCaller(etcd.NewRegistry(microregistry.Addrs(etcdAddr)))
	for told := ""; ; {
		name, err := caller.sayHello(context.Background(), what)
		if err != nil {
			name = err.Error()
		}
		if name != told {
			told = name
			println("answered:", name)
		}
	}
}

// caller is go-micro's own client.
type caller struct{ client.Client }

func newCaller(r microregistry.Registry, opts ...client.Option) caller {
	return caller{grpcclient.NewClient(append(opts, client.Registry(r), client.Selector(selector.NewSelector(selector.Registry(r))))...)}
}

func (c caller) sayHello(ctx context.Context, name string) (string, error) {
	var reply basic.HelloReply
	err := c.Call(ctx, c.NewRequest("user", "Greeter.SayHello", &basic.HelloRequest{Name: name}), &reply)
	return reply.GetMessage(), err
}
