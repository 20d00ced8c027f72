package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// Where calls go: policies, zones, affinity, live config, splits, draining and calls that name their instance.

// fleet is servers of one service, and a client's registry.
type fleet struct {
	t        *testing.T
	etcd     *etcdtest.Cluster
	servers  *runtime.Registry
	registry *runtime.Registry

	mu  sync.Mutex
	all map[string]*backend
}

func newFleet(t *testing.T, opts ...runtime.Option) *fleet {
	t.Helper()
	f := &fleet{t: t, etcd: etcdtest.Start(t), all: make(map[string]*backend)}
	f.servers = f.newRegistry()
	f.registry = f.newRegistry(opts...)
	return f
}

func (f *fleet) newRegistry(opts ...runtime.Option) *runtime.Registry {
	f.t.Helper()
	quiet := runtime.WithLogger(slog.New(slog.DiscardHandler))
	registry := runtime.NewRegistry(f.etcd.Client(f.t), append([]runtime.Option{quiet}, opts...)...)
	f.t.Cleanup(func() {
		if err := registry.Close(kit.Bounded(f.t, soon)); err != nil {
			f.t.Error(err)
		}
	})
	return registry
}

// backend is a greeter that answers with its instance id.
type backend struct {
	basic.UnimplementedGreeterServer
	name         string
	addr         string
	registration *runtime.Registration
	calls        atomic.Int64
	connections  atomic.Int64
	hold         chan struct{} // calls with "hold" wait for it
	holding      chan struct{}
	headers      atomic.Value // metadata.MD of the last call
	grpc         *grpc.Server
}

func (s *backend) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	s.calls.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	s.headers.Store(md)
	if len(md.Get("hold")) > 0 {
		s.holding <- struct{}{}
		<-s.hold
	}
	return &basic.HelloReply{Message: s.name}, nil
}

// listen starts a server that is not registered.
func (f *fleet) listen(name string) *backend {
	f.t.Helper()
	lis := kit.Listen(f.t)
	s := &backend{name: name, addr: lis.Addr().String(), hold: make(chan struct{}), holding: make(chan struct{}), grpc: grpc.NewServer()}
	basic.RegisterGreeterServer(s.grpc, s)
	kit.Serve(f.t, s.grpc, counting{lis, &s.connections})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[name] = s
	return s
}

// start starts a server and registers it.
func (f *fleet) start(name string, opts ...runtime.RegisterOption) *backend {
	f.t.Helper()
	s := f.listen(name)
	f.register(s, opts...)
	return s
}

func (f *fleet) register(s *backend, opts ...runtime.RegisterOption) {
	f.t.Helper()
	var err error
	s.registration, err = f.servers.Register(kit.Bounded(f.t, soon), key, runtime.Endpoint{Instance: s.name, Addr: s.addr}, opts...)
	must(f.t, err)
}

func (s *backend) leave(t *testing.T) {
	t.Helper()
	must(t, s.registration.Close(kit.Bounded(t, soon)))
}

// client returns a connection with a service config of its own.
func (f *fleet) client(config string, opts ...grpc.DialOption) *grpc.ClientConn {
	f.t.Helper()
	return f.clientOf(f.registry, config, opts...)
}

func (f *fleet) clientOf(registry *runtime.Registry, config string, opts ...grpc.DialOption) *grpc.ClientConn {
	f.t.Helper()
	desc := basic.Greeter_EtcdServiceDesc
	desc.ServiceConfig = config
	return f.clientTo(registry, desc, opts...)
}

func (f *fleet) clientTo(registry *runtime.Registry, desc runtime.ServiceDesc, opts ...grpc.DialOption) *grpc.ClientConn {
	f.t.Helper()
	conn, err := registry.NewClient(&desc, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		f.t.Error(err)
	}
	return conn
}

func policy(child string) string { return `{"loadBalancingConfig":[` + child + `]}` }

// share makes n calls and returns how many each server answered.
func share(t *testing.T, conn grpc.ClientConnInterface, n int) map[string]int {
	t.Helper()
	counts := make(map[string]int)
	ctx := kit.Bounded(t, 6*soon)
	for range n {
		name, err := call(ctx, conn)
		must(t, err)
		counts[name]++
	}
	return counts
}

// only waits until calls reach exactly the named servers, and returns how long that took.
func only(t *testing.T, conn grpc.ClientConnInterface, names ...string) time.Duration {
	t.Helper()
	return kit.Eventually(t, soon, fmt.Sprintf("calls reach %q and no others", names), func() bool {
		var seen []string
		for range 4 * len(names) {
			name, err := call(kit.Bounded(t, soon), conn)
			if err != nil {
				t.Logf("call: %v", err)
				return false
			}
			if !slices.Contains(seen, name) {
				seen = append(seen, name)
			}
		}
		slices.Sort(seen)
		return slices.Equal(seen, names)
	})
}

// callAllTheTime has n callers call all the time until stop is called; no call may fail. The calls carry
// an affinity, for the policies that need one. stop returns how many there were.
func callAllTheTime(t *testing.T, conn grpc.ClientConnInterface, n int) (stop func() int) {
	t.Helper()
	all := newLoops()
	var calls atomic.Int64
	for range n {
		all.run(func() {
			if _, err := call(runtime.WithAffinity(kit.Bounded(t, soon), "k"), conn); err != nil {
				t.Errorf("call: %v", err)
			}
			calls.Add(1)
			time.Sleep(time.Millisecond) // the callers would else keep the processors from what is tested
		})
	}
	return func() int {
		all.stop()
		return int(calls.Load())
	}
}

// loops calls functions again and again, each in a goroutine of its own, until stop.
type loops struct {
	done    chan struct{}
	running sync.WaitGroup
}

func newLoops() *loops { return &loops{done: make(chan struct{})} }

func (l *loops) run(do func()) {
	l.running.Go(func() {
		for {
			select {
			case <-l.done:
				return
			default:
				do()
			}
		}
	})
}

// stop waits for the calls under way.
func (l *loops) stop() {
	close(l.done)
	l.running.Wait()
}

// live puts a live service config and waits until the fleet's client goes by it, which takes up to a
// second after the one before.
func (f *fleet) live(config string) {
	f.t.Helper()
	before := f.registry.Status().Keys[0].ServiceConfig
	must(f.t, f.registry.SetServiceConfig(kit.Bounded(f.t, soon), key, config))
	kit.Eventually(f.t, soon, fmt.Sprintf("the live config %s is in force", config), func() bool {
		return f.registry.Status().Keys[0].ServiceConfig != before
	})
}
