package kitex

import (
	"context"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/discovery"
	"github.com/cloudwego/kitex/pkg/klog"
	"github.com/cloudwego/kitex/pkg/registry"
	_ "github.com/cloudwego/kitex/pkg/remote/codec/protobuf/encoding/gzip" // for callers of ours whose process has gRPC's
	"github.com/cloudwego/kitex/pkg/rpcinfo"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"
	etcd "github.com/kitex-contrib/registry-etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/compat/internal/world"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

func TestMain(m *testing.M) {
	klog.SetOutput(io.Discard)
	for _, name := range []string{"KITEX_IP_TO_REGISTRY", "KITEX_PORT_TO_REGISTRY", "KITEX_ETCD_REGISTRY_LEASE_TTL"} {
		if err := os.Unsetenv(name); err != nil {
			panic(err)
		}
	}
	world.Main(m, map[string]func([]string){
		"server":           func(args []string) { run(newRegistry(args[0]), &world.Greeter{Name: args[1]}) },
		"announced server": func(args []string) { run(newAnnouncer(args[0]), &world.Greeter{Name: args[1]}) },
	})
}

// newRegistry returns kitex' registry.
func newRegistry(etcdAddr string) registry.Registry {
	theirs, err := etcd.NewEtcdRegistry([]string{etcdAddr})
	if err != nil {
		panic(err)
	}
	return theirs
}

// announcer has a server of kitex' announced by this project, in the lines of docs/migration.md.
type announcer struct{ *runtime.Server }

// Register is called when kitex' server listens.
func (a announcer) Register(info *registry.Info) error {
	return a.Announce(context.Background(), info.Addr.String())
}

// Deregister is called before kitex' server stops.
func (a announcer) Deregister(*registry.Info) error {
	defer time.Sleep(6 * time.Second) // kitex' callers list every 5 s: let them do so first
	return a.Withdraw(context.Background())
}

// newAnnouncer returns a registry of kitex' that is ours.
func newAnnouncer(etcdAddr string) registry.Registry {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdAddr}})
	if err != nil {
		panic(err)
	}
	registry := runtime.NewRegistry(client)
	announced := registry.NewServer(grpc.NewServer()) // it serves nothing: kitex' server does
	announced.Publish(user)
	return announcer{announced}
}

// run is the main function of a server of kitex'.
func run(r registry.Registry, impl basic.GreeterServer) {
	s := server.NewServer(
		server.WithServiceAddr(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}),
		server.WithServerBasicInfo(&rpcinfo.EndpointBasicInfo{ServiceName: "user"}),
		server.WithRegistry(r),
	)
	if err := s.RegisterService(greeterInfo, impl); err != nil {
		panic(err)
	}
	if err := s.Run(); err != nil {
		panic(err)
	}
}

// caller is kitex' own client, speaking gRPC.
type caller struct{ client.Client }

func newCaller(t *testing.T, w *world.World, opts ...client.Option) caller {
	t.Helper()
	resolver, err := etcd.NewEtcdResolver(w.Etcd.Endpoints(), func(config *etcd.Config) { w.Quiet(config.EtcdConfig) })
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewClient(greeterInfo, append(opts,
		client.WithDestService("user"), client.WithTransportProtocol(transport.GRPC), client.WithResolver(named{resolver, w.EtcdAddr()}))...)
	if err != nil {
		t.Fatal(err)
	}
	return caller{c}
}

// named is a resolver with a name of its own: kitex keeps one for all clients of a process by its name.
type named struct {
	discovery.Resolver
	name string
}

// Name implements discovery.Resolver.
func (n named) Name() string { return n.name }

func (c caller) sayHello(ctx context.Context, name string) (string, error) {
	var result sayHelloResult
	err := c.Call(ctx, "SayHello", &sayHelloArgs{&basic.HelloRequest{Name: name}}, &result)
	return result.Success.GetMessage(), err
}
