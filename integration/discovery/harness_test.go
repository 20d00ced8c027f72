// Package discovery tests callers against real etcd: every row of the fault list that is about discovering and resolving,
// by name; where calls go (traffic_*, methods); what a registry tells of itself (observability, causes, dashboard,
// metrics, hostile); and what docs/security.md says of each role (security_*).
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const key = "helloworld/greeter"

// soon bounds what is to happen at once: generous, for machines that are busy.
const soon = 30 * time.Second

// world is one etcd, one registry on it, and servers that are registered by hand.
type world struct {
	t        *testing.T
	etcd     *etcdtest.Cluster
	client   *clientv3.Client
	registry *runtime.Registry
	logs     *kit.Logs
}

func newWorld(t *testing.T, cluster []etcdtest.Option, opts ...runtime.Option) *world {
	t.Helper()
	leak.Check(t)
	w := &world{t: t, etcd: etcdtest.Start(t, cluster...), logs: &kit.Logs{}}
	w.client = w.etcd.Client(t)
	w.registry = w.newRegistry(w.client, opts...)
	return w
}

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// newRegistry returns a registry that is closed with the test, which then has no goroutine of it left.
func (w *world) newRegistry(client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	logger := slog.New(slog.NewTextHandler(w.logs, nil))
	registry := runtime.NewRegistry(client, append([]runtime.Option{runtime.WithLogger(logger)}, opts...)...)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			w.t.Errorf("close the registry: %v", err)
		}
	})
	return registry
}

// conn returns a connection to the service.
func (w *world) conn(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	desc := basic.Greeter_EtcdServiceDesc
	conn, err := w.registry.NewClient(&desc, append(plaintext(), opts...)...)
	must(w.t, err)
	return conn
}

func plaintext() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
}

// put writes a value under the service's key, around what is tested.
func (w *world) put(k, v string, opts ...clientv3.OpOption) {
	w.t.Helper()
	if _, err := w.etcd.Admin().Put(kit.Bounded(w.t, soon), k, v, opts...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) grant() clientv3.LeaseID {
	w.t.Helper()
	lease, err := w.etcd.Admin().Grant(kit.Bounded(w.t, soon), 60)
	must(w.t, err)
	return lease.ID
}

func (w *world) delete(k string) {
	w.t.Helper()
	if _, err := w.etcd.Admin().Delete(kit.Bounded(w.t, soon), k); err != nil {
		w.t.Fatal(err)
	}
}

// fill puts n endpoints of a version, in transactions.
func (w *world) fill(n, version int) {
	w.t.Helper()
	for from := 0; from < n; from += 100 {
		var ops []clientv3.Op
		for i := from; i < from+100; i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/i%05d", key, i),
				fmt.Sprintf(`{"Addr":"10.%d.%d.%d:9000","Metadata":{"version":"%d"}}`, version, i/250, i%250, version)))
		}
		if _, err := w.etcd.Admin().Txn(kit.Bounded(w.t, soon)).Then(ops...).Commit(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// watch yields the sets of a key, as Registry.Watch does.
func (w *world) watch(key string, layouts ...runtime.Layout) <-chan []runtime.Endpoint {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	sets := make(chan []runtime.Endpoint)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for set, err := range w.registry.Watch(ctx, key, layouts...) {
			if err != nil {
				w.t.Logf("watch %s: %v", key, err)
				continue
			}
			select {
			case sets <- set:
			case <-ctx.Done():
				return
			}
		}
	}()
	w.t.Cleanup(func() { cancel(); <-done })
	return sets
}

// server is a greeter that answers with its name.
type server struct {
	basic.UnimplementedGreeterServer
	name      string
	addr      string
	made      atomic.Int64  // connections to it
	authority atomic.Value  // of the last call
	holding   chan struct{} // a call with "hold" came in
	release   chan struct{} // it may go on
	stop      func()
}

func (s *server) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get(":authority"); len(values) > 0 {
		s.authority.Store(values[0])
	}
	if len(md.Get("block")) > 0 {
		<-ctx.Done()
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	if len(md.Get("hold")) > 0 {
		close(s.holding)
		<-s.release
	}
	return &basic.HelloReply{Message: s.name}, nil
}

// serve starts a server that is registered nowhere.
func (w *world) serve(name string) *server {
	w.t.Helper()
	lis := kit.Listen(w.t)
	s := &server{name: name, addr: lis.Addr().String(), holding: make(chan struct{}), release: make(chan struct{})}
	g := grpc.NewServer()
	basic.RegisterGreeterServer(g, s)
	s.stop = kit.Serve(w.t, g, counting{lis, &s.made})
	return s
}

// register puts a server's endpoint, as etcd's own naming writes it.
func (w *world) register(s *server) *server {
	w.t.Helper()
	w.put(key+"/"+s.name, fmt.Sprintf(`{"Op":0,"Addr":%q}`, s.addr))
	return s
}

// rerun runs the test again in a process of its own, with more in its environment.
func rerun(t *testing.T, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(kit.Bounded(t, 6*soon), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("in a process of its own: %v\n%s", err, out)
	}
}
