// Package leader tests elections on a real etcd: which instance leads, and
// which instance calls for the leader reach.
package leader

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

const (
	entries    = "leader/counter"
	candidates = "_grpc_leader/" + entries + "//"
)

// etcd is shared by all tests. Each test has its own namespaces.
var etcd *etcdtest.Cluster

func TestMain(m *testing.M) {
	os.Exit(kit.OnEtcd(m, &etcd))
}

// group is the instances of one service, which stand for election, and the
// store to which the leader writes.
type group struct {
	t          *testing.T
	namespace  string
	store      store
	logs       kit.Logs
	etcdClient *clientv3.Client // of all registries
}

// groups counts the groups. The count is part of the namespace of a group.
var groups atomic.Int64

func newGroup(t *testing.T) *group {
	t.Helper()
	t.Parallel()

	return &group{
		t:          t,
		etcdClient: etcd.Admin(),
		namespace:  fmt.Sprintf("%s_%d/", strings.ReplaceAll(t.Name(), "/", "_"), groups.Add(1)),
	}
}

func (g *group) registry() *runtime.Registry {
	g.t.Helper()
	return kit.Registry(g.t, &g.logs, g.etcdClient, runtime.WithNamespace(g.namespace))
}

// store adds numbers, and rejects those with a stale token.
type store struct {
	fence leader.Fence
	mu    sync.Mutex
	sum   int64
}

func (s *store) add(token, n int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if err := s.fence.Admit(token); err != nil {
		return 0, err
	}

	s.sum += n

	return s.sum, nil
}

// instance is one server of a group.
type instance struct {
	leaderpb.UnimplementedCounterServer
	name     string
	key      string // key of the service
	group    *group
	registry *runtime.Registry
	server   *runtime.Server
	grpc     *grpc.Server
	health   *health.Server
	leads    *leader.Leadership
	addr     string
	serves   bool         // uses Serve instead of Announce
	stop     func() error // ends Serve and returns its error

	// Add returns what add returns, and Watch calls watch after its first
	// reply, unless these are nil.
	add func(ctx context.Context) (*leaderpb.AddResponse, error)

	watch func(stream leaderpb.Counter_WatchServer) error
}

func (g *group) start(name string, set ...func(*instance)) *instance {
	g.t.Helper()
	return g.startAs(name, calm(under(entries, nil)), set...)
}

// startAs starts an instance with the given service description.
func (g *group) startAs(name string, desc *runtime.ServiceDesc, set ...func(*instance)) *instance {
	g.t.Helper()

	i := &instance{name: name, key: desc.Key, group: g}
	for _, set := range set {
		set(i)
	}

	i.registry = g.registry()
	i.grpc = grpc.NewServer(leader.Guard(i.registry, desc)...)
	i.server = i.registry.NewServer(i.grpc)
	leaderpb.RegisterCounterServer(i.server, i)
	i.health = health.NewServer()
	healthpb.RegisterHealthServer(i.server, i.health)
	i.server.Publish(desc, runtime.WithInstance(name))
	i.leads = leader.Of(i.server, desc)
	lis := kit.Listen(g.t)
	i.addr = lis.Addr().String()

	if i.serves {
		i.stop = kit.Run(g.t, func(ctx context.Context) error { return i.server.Serve(ctx, lis) })
		g.t.Cleanup(i.grpc.Stop) // runs first, so that Serve does not wait for calls

		return i
	}

	kit.Serve(g.t, i.grpc, lis)
	kit.Must(g.t, i.server.Announce(kit.Context(g.t), i.addr))

	kit.Eventually(g.t, "the instance to be a candidate", func() bool {
		return slices.ContainsFunc(g.candidatesOf(i.key), func(kv *mvccpb.KeyValue) bool {
			return string(kv.Value) == i.name || string(kv.Value) == i.addr
		})
	})

	return i
}

func (i *instance) Add(
	ctx context.Context,
	req *leaderpb.AddRequest,
) (*leaderpb.AddResponse, error) {
	if i.add != nil {
		return i.add(ctx)
	}

	token, ok := i.leads.Token()
	if !ok {
		return nil, fmt.Errorf("%s does not lead", i.name)
	}

	sum, err := i.group.store.add(token, req.GetN())

	return &leaderpb.AddResponse{Sum: sum, Server: i.name}, err
}

func (i *instance) Peek(context.Context, *leaderpb.AddRequest) (*leaderpb.AddResponse, error) {
	return &leaderpb.AddResponse{Server: i.name}, nil
}

func (i *instance) Watch(_ *leaderpb.AddRequest, stream leaderpb.Counter_WatchServer) error {
	err := stream.Send(&leaderpb.AddResponse{Server: i.name})
	if err == nil && i.watch != nil {
		err = i.watch(stream)
	}

	return err
}

func (g *group) client() leaderpb.CounterClient {
	g.t.Helper()
	return g.clientOf(&leaderpb.Counter_EtcdServiceDesc)
}

// clientOf returns a client with the given service description.
func (g *group) clientOf(
	desc *runtime.ServiceDesc,
	opts ...grpc.DialOption,
) leaderpb.CounterClient {
	g.t.Helper()

	conn, err := g.registry().NewClient(desc, append(opts, kit.Insecure)...)
	kit.Must(g.t, err)

	return leaderpb.NewCounterClient(conn)
}

// candidatesOf returns the candidates of a service in etcd.
func (g *group) candidatesOf(key string) []*mvccpb.KeyValue {
	g.t.Helper()

	resp, err := g.etcdClient.Get(kit.Context(g.t), g.namespace+"_grpc_leader/"+key+"//",
		clientv3.WithPrefix())
	kit.Must(g.t, err)

	return resp.Kvs
}

// under returns the service's description with the given key and layout. A nil
// layout is the default.
func under(key string, layout runtime.Layout) *runtime.ServiceDesc {
	desc := leaderpb.Counter_EtcdServiceDesc
	desc.Key = key
	desc.Layout = layout

	return &desc
}

// calm gives a description a long lease TTL, for tests in which no lease may
// expire, and returns it.
func calm(desc *runtime.ServiceDesc) *runtime.ServiceDesc {
	desc.LeaseTTL = time.Minute
	return desc
}

// leader returns the name of the instance that answers a call for the leader.
func (g *group) leader(client leaderpb.CounterClient) string {
	g.t.Helper()

	ctx := kit.Context(g.t)
	for {
		reply, err := client.Add(ctx, &leaderpb.AddRequest{N: 1})
		if err == nil {
			return reply.GetServer()
		}

		// A call may fail, such as one that is under way when the leader is
		// stopped.
		if ctx.Err() != nil {
			g.t.Fatal(err)
		}
	}
}

// await waits for a value from a channel.
func await[T any](t *testing.T, c <-chan T) T {
	t.Helper()

	select {
	case v := <-c:
		return v
	case <-kit.Context(t).Done():
		t.Fatalf("no value in the channel after %v, want one", kit.Soon)
		panic("unreachable")
	}
}

// configure puts the live config of the service.
func (g *group) configure(config string) {
	g.t.Helper()
	_, err := etcd.Admin().Put(g.t.Context(), g.namespace+"_grpc_config/"+entries, config)
	kit.Must(g.t, err)
}
