// Package discovery tests callers against real etcd: every row of the fault list that is about discovering and resolving,
// by name; where calls go (traffic); what a registry tells of itself (observability, causes, dashboard, metrics, hostile);
// what somebody hostile can cost it (writers); and what docs/security.md says of each role (security_*).
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const (
	key       = "helloworld/greeter"
	configKey = "_grpc_config/" + key
)

func TestMain(m *testing.M) { os.Exit(leak.Main(4, m.Run)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

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

// greeterAt returns the description of the greeter under a key.
func greeterAt(key string) *runtime.ServiceDesc {
	desc := basic.Greeter_EtcdServiceDesc
	desc.Key = key
	return &desc
}

var insecurely = grpc.WithTransportCredentials(insecure.NewCredentials())

// conn returns a connection to the service.
func (w *world) conn(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	return dial(w.t, w.registry, greeterAt(key), opts...)
}

// dial returns a connection in plaintext, unless the options say otherwise.
func dial(t *testing.T, registry *runtime.Registry, desc *runtime.ServiceDesc, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	conn, err := registry.NewClient(desc, append([]grpc.DialOption{insecurely}, opts...)...)
	must(t, err)
	return conn
}

// put writes to etcd, around what is tested.
func (w *world) put(k, v string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Put(kit.Bounded(w.t, soon), k, v, opts...)
	must(w.t, err)
}

// get reads from etcd, around what is tested; nil for nothing.
func (w *world) get(k string) *string {
	w.t.Helper()
	resp, err := w.etcd.Admin().Get(kit.Bounded(w.t, soon), k)
	must(w.t, err)
	if len(resp.Kvs) == 0 {
		return nil
	}
	value := string(resp.Kvs[0].Value)
	return &value
}

func (w *world) grant() clientv3.LeaseID {
	w.t.Helper()
	lease, err := w.etcd.Admin().Grant(kit.Bounded(w.t, soon), 60)
	must(w.t, err)
	return lease.ID
}

func (w *world) delete(k string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Delete(kit.Bounded(w.t, soon), k, opts...)
	must(w.t, err)
}

// commit carries operations out in transactions of a hundred.
func (w *world) commit(ops []clientv3.Op) {
	w.t.Helper()
	for len(ops) > 0 {
		n := min(len(ops), 100)
		_, err := w.etcd.Admin().Txn(kit.Bounded(w.t, soon)).Then(ops[:n]...).Commit()
		must(w.t, err)
		ops = ops[n:]
	}
}

// status is of the service's key, once it is followed.
func (w *world) status() runtime.KeyStatus {
	for _, s := range w.registry.Status().Keys {
		if s.Key == key {
			return s
		}
	}
	return runtime.KeyStatus{}
}

// watch yields the sets of a key, as Registry.Watch does.
func (w *world) watch(key string, layouts ...runtime.Layout) <-chan []runtime.Endpoint {
	w.t.Helper()
	return w.watchAs(w.registry, key, layouts...)
}

func (w *world) watchAs(registry *runtime.Registry, key string, layouts ...runtime.Layout) <-chan []runtime.Endpoint {
	ctx, cancel := context.WithCancel(context.Background())
	sets := make(chan []runtime.Endpoint)
	var watching sync.WaitGroup
	watching.Go(func() {
		for set, err := range registry.Watch(ctx, key, layouts...) {
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
	})
	w.t.Cleanup(func() { cancel(); watching.Wait() })
	return sets
}

// server is a greeter that answers with its name.
type server struct {
	basic.UnimplementedGreeterServer
	name    string
	addr    string
	do      func(context.Context) error // before it answers; nil: nothing
	made    atomic.Int64                // connections to it
	headers atomic.Value                // metadata.MD of the last call
	stop    func()
}

func (s *server) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	s.headers.Store(md)
	if s.do != nil {
		if err := s.do(ctx); err != nil {
			return nil, err
		}
	}
	return &basic.HelloReply{Message: s.name}, nil
}

// serve starts a server that is registered nowhere.
func (w *world) serve(name string, opts ...grpc.ServerOption) *server {
	w.t.Helper()
	return w.start(&server{name: name}, opts...)
}

// start starts a server that is made already.
func (w *world) start(s *server, opts ...grpc.ServerOption) *server {
	w.t.Helper()
	lis := kit.Listen(w.t)
	s.addr = lis.Addr().String()
	g := grpc.NewServer(opts...)
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

// registerAll starts and registers servers.
func (w *world) registerAll(names ...string) {
	w.t.Helper()
	for _, name := range names {
		w.register(w.serve(name))
	}
}

// calling starts and registers servers, and returns a connection whose calls reach all of them.
func (w *world) calling(names ...string) *grpc.ClientConn {
	w.t.Helper()
	w.registerAll(names...)
	conn := w.conn()
	reached(w.t, conn, soon, names...)
	return conn
}

// tag puts a server's endpoint with metadata.
func (w *world) tag(s *server, metadata string) {
	w.t.Helper()
	w.put(key+"/"+s.name, fmt.Sprintf(`{"Addr":%q,"Metadata":%s}`, s.addr, metadata))
}

// live puts a live service config and waits until it is in force, which takes up to a second after the one before.
func (w *world) live(config string) {
	w.t.Helper()
	before := w.status().ServiceConfig
	must(w.t, w.registry.SetServiceConfig(kit.Bounded(w.t, soon), key, config))
	kit.Eventually(w.t, soon, fmt.Sprintf("the live config %s is in force", config), func() bool {
		return w.status().ServiceConfig != before
	})
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
