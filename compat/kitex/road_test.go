package kitex

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/loadbalance"
	"github.com/cloudwego/kitex/pkg/loadbalance/lbcache"
	"github.com/cloudwego/kitex/pkg/registry"
	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // a caller that links gRPC's gzip accepts gzip, and then kitex' server needs this codec
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"
	etcd "github.com/kitex-contrib/registry-etcd"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	klog.SetOutput(io.Discard)
	world.Main(m, map[string]func([]string){
		"server": func(args []string) {
			theirs, err := etcd.NewEtcdRegistry(args[:1])
			world.Check(err)
			run(theirs, &world.Greeter{Name: args[1]})
		},
		"announced server": func(args []string) {
			// this gRPC server serves nothing: kitex' server does
			announced := world.RegistryAt(args[0]).NewServer(grpc.NewServer())
			announced.Publish(user)
			run(announcer{announced}, &world.Greeter{Name: args[1]})
		},
	})
}

// announcer lets this project announce a kitex server. docs/migration.md sends
// readers here.
type announcer struct{ *runtime.Server }

// Register runs once kitex' server listens.
func (a announcer) Register(info *registry.Info) error {
	return a.Announce(context.Background(), info.Addr.String())
}

// Deregister runs before kitex' server stops.
func (a announcer) Deregister(*registry.Info) error {
	defer time.Sleep(6 * time.Second) // until kitex' callers, which list every 5 s, have noticed

	return a.Withdraw(context.Background())
}

// run is the main function of a kitex server.
func run(r registry.Registry, impl basic.GreeterServer) {
	s := server.NewServer(
		server.WithServiceAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "user"}),
		server.WithRegistry(r),
	)
	world.Check(s.RegisterService(greeterInfo, impl))
	world.Check(s.Run())
}

// caller is kitex' own client, speaking gRPC.
type caller struct{ client.Client }

func newCaller(t *testing.T, w *world.World) caller {
	t.Helper()

	resolver, err := etcd.NewEtcdResolver(w.Etcd.Endpoints(), func(config *etcd.Config) {
		w.Quiet(config.EtcdConfig)
	})
	world.Must(t, err)

	interval := refresh() + time.Duration(dialed.Add(1))*time.Microsecond
	c, err := client.NewClient(greeterInfo,
		client.WithDestService("user"),
		client.WithTransportProtocol(transport.GRPC),
		client.WithResolver(named{resolver, w.EtcdAddr()}),
		client.WithLoadBalancer(loadbalance.NewWeightedRoundRobinBalancer(),
			&lbcache.Options{RefreshInterval: interval}))
	world.Must(t, err)

	return caller{c}
}

// named is a resolver with a unique name: kitex uses the same resolver for all
// clients of a process whose resolvers have the same name.
type named struct {
	discovery.Resolver
	name string
}

// Name implements discovery.Resolver.
func (n named) Name() string {
	return n.name
}

func (c caller) sayHello(ctx context.Context) (string, error) {
	var result sayHelloResult
	err := c.Call(ctx, "SayHello", &sayHelloArgs{&basic.HelloRequest{}}, &result)

	return result.Success.GetMessage(), err
}

// refresh is the list interval of kitex' callers, which do not watch: 5 s by
// default.
func refresh() time.Duration {
	if migrationtest.Full() {
		return 5 * time.Second
	}

	return 100 * time.Millisecond
}

// dialed counts the callers, so that each caller has its own refresh interval.
// kitex refreshes all clients with the same interval one after the other, and
// clients of an earlier test, whose etcd has ended, would delay the others.
var dialed atomic.Int64

// theirs returns kitex' servers and callers.
func theirs(t *testing.T, w *world.World) migrationtest.Kind {
	return migrationtest.Kind{
		Serve: w.Programs(user.Key, "server"),
		Dial: func() (migrationtest.Call, func()) {
			return newCaller(t, w).sayHello, func() {}
		},
	}
}

// The servers and callers of a service move from kitex to this project under
// load.
func TestRoad(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)
		to = w.Ours(user)
		to.Serve = func(name string) (leave, stop func()) {
			server := w.NewRegistry().NewServer(grpc.NewServer(),
				runtime.WithDrainDelay(refresh()+time.Second))
			return nil, w.PublishOn(server, &world.Greeter{Name: name}, user).Stop
		}

		return theirs(t, w), to
	})
}

// Servers stay on kitex, and this project announces them. Their callers move.
func TestRoadWithTheirServer(t *testing.T) {
	migrationtest.Run(t, func(t *testing.T) (from, to migrationtest.Kind) {
		w := world.New(t)
		to = w.Ours(user)
		to.Serve = w.Programs(user.Key, "announced server")

		return theirs(t, w), to
	})
}
