// Package discovery tests callers against real etcd: faults (discovering,
// resolving); live configs (configs); routing and fallback (traffic); what a
// registry reports (causes, metrics, status, hostile); the cost of hostile
// writers (writers); and the rights of each role in docs/security.md
// (security_*).
package discovery

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loadtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const (
	key       = "helloworld/greeter"
	configKey = "_grpc_config/" + key
)

func TestMain(m *testing.M) {
	os.Exit(leak.Main(4, m.Run))
}

// world is one etcd and a registry that uses it. Tests put the entries of
// servers themselves.
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

// newRegistry returns a registry that the end of the test closes.
func (w *world) newRegistry(client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()

	registry := kit.Registry(w.t, w.logs, client, opts...)
	w.t.Cleanup(func() {
		if err := registry.Close(kit.Context(w.t)); err != nil {
			w.t.Errorf("close the registry: %v, want nil", err)
		}
	})

	return registry
}

// greeterAt returns a description of the greeter service with the given key.
func greeterAt(key string) *runtime.ServiceDesc {
	desc := basic.Greeter_EtcdServiceDesc
	desc.Key = key

	return &desc
}

// conn returns a connection to the greeter service.
func (w *world) conn(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	return dial(w.t, w.registry, greeterAt(key), opts...)
}

// dial returns a connection, in plaintext unless opts has credentials.
func dial(
	t *testing.T,
	registry *runtime.Registry,
	desc *runtime.ServiceDesc,
	opts ...grpc.DialOption,
) *grpc.ClientConn {
	t.Helper()

	conn, err := registry.NewClient(desc, append([]grpc.DialOption{kit.Insecure}, opts...)...)
	kit.Must(t, err)

	return conn
}

// put writes to etcd directly.
func (w *world) put(k, v string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Put(kit.Context(w.t), k, v, opts...)
	kit.Must(w.t, err)
}

// get reads the value of a key from etcd directly. It returns nil if the key
// does not exist.
func (w *world) get(k string) *string {
	w.t.Helper()

	resp, err := w.etcd.Admin().Get(kit.Context(w.t), k)
	kit.Must(w.t, err)

	if len(resp.Kvs) == 0 {
		return nil
	}

	value := string(resp.Kvs[0].Value)

	return &value
}

func (w *world) grant() clientv3.LeaseID {
	w.t.Helper()

	lease, err := w.etcd.Admin().Grant(kit.Context(w.t), 60)
	kit.Must(w.t, err)

	return lease.ID
}

func (w *world) delete(k string, opts ...clientv3.OpOption) {
	w.t.Helper()
	_, err := w.etcd.Admin().Delete(kit.Context(w.t), k, opts...)
	kit.Must(w.t, err)
}

// commit applies operations in transactions of up to a hundred operations.
func (w *world) commit(ops []clientv3.Op) {
	w.t.Helper()

	for len(ops) > 0 {
		n := min(len(ops), 100)
		_, err := w.etcd.Admin().Txn(kit.Context(w.t)).Then(ops[:n]...).Commit()
		kit.Must(w.t, err)
		ops = ops[n:]
	}
}

// status returns the status of the service's key, or a zero status while the
// registry does not follow that key.
func (w *world) status() runtime.KeyStatus {
	for _, s := range w.registry.Status().Keys {
		if s.Key == key {
			return s
		}
	}

	return runtime.KeyStatus{}
}

// watch returns a channel with the endpoint sets of Registry.Watch.
func (w *world) watch(key string, layouts ...runtime.Layout) <-chan []runtime.Endpoint {
	w.t.Helper()
	return w.watchAs(w.registry, key, layouts...)
}

func (w *world) watchAs(
	registry *runtime.Registry,
	key string,
	layouts ...runtime.Layout,
) <-chan []runtime.Endpoint {
	sets := make(chan []runtime.Endpoint)
	kit.Run(w.t, func(ctx context.Context) error {
		for set, err := range registry.Watch(ctx, key, layouts...) {
			if err != nil {
				w.t.Logf("watch %s: %v", key, err)
				continue
			}

			select {
			case sets <- set:
			case <-ctx.Done():
			}
		}

		return nil
	})

	return sets
}

// server is a greeter that answers with its name.
type server struct {
	basic.UnimplementedGreeterServer
	name    string
	addr    string
	do      func(context.Context) error // runs before the answer; nil: nothing
	made    atomic.Int64                // connections accepted
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

// serve starts a server without registering it.
func (w *world) serve(name string, opts ...grpc.ServerOption) *server {
	w.t.Helper()
	return w.start(&server{name: name}, opts...)
}

// start starts the server s on a free port.
func (w *world) start(s *server, opts ...grpc.ServerOption) *server {
	w.t.Helper()

	lis := kit.Listen(w.t)
	s.addr = lis.Addr().String()
	g := grpc.NewServer(opts...)
	basic.RegisterGreeterServer(g, s)
	s.stop = kit.Serve(w.t, g, counting{lis, &s.made})

	return s
}

// register puts a server's entry, in the format of etcd's naming package.
func (w *world) register(s *server) *server {
	w.t.Helper()
	w.put(key+"/"+s.name, fmt.Sprintf(`{"Op":0,"Addr":%q}`, s.addr))

	return s
}

// registerAll starts and registers servers with these names.
func (w *world) registerAll(names ...string) {
	w.t.Helper()

	for _, name := range names {
		w.register(w.serve(name))
	}
}

// calling starts and registers servers, and returns a connection whose calls
// reach all of them.
func (w *world) calling(names ...string) *grpc.ClientConn {
	w.t.Helper()

	w.registerAll(names...)
	conn := w.conn()
	reached(w.t, conn, names...)

	return conn
}

func ids(endpoints []runtime.Endpoint) string {
	var all []string
	for _, e := range endpoints {
		all = append(all, e.Instance)
	}

	return strings.Join(all, " ")
}

// await receives sets until one has exactly the wanted instances.
func await(t *testing.T, sets <-chan []runtime.Endpoint, want string) {
	t.Helper()

	deadline := time.After(2 * kit.Soon)
	last := "nothing"
	for last != want {
		select {
		case set := <-sets:
			last = ids(set)
		case <-deadline:
			t.Fatalf("instances of the last set: %.200s, want %s", last, want)
		}
	}
}

// call makes one call and returns the name of the server that answered.
func call(ctx context.Context, conn grpc.ClientConnInterface) (string, error) {
	reply, err := basic.NewGreeterClient(conn).SayHello(ctx, &basic.HelloRequest{})
	return reply.GetMessage(), err
}

// once makes one call that ends soon.
func once(conn grpc.ClientConnInterface) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), kit.Soon)
	defer cancel()

	return call(ctx, conn)
}

// reached makes rounds of calls until exactly the named servers answer a round.
func reached(t *testing.T, conn grpc.ClientConnInterface, names ...string) {
	t.Helper()
	kit.EventuallyOr(t, 2*kit.Soon, func() string {
		return fmt.Sprintf("calls reach %q and no others", names)
	}, func() bool {
		seen, err := round(conn, 3*len(names))
		return err == nil && slices.Equal(seen, names)
	})
}

// round makes n calls and returns the sorted names of the servers that
// answered.
func round(conn grpc.ClientConnInterface, n int) ([]string, error) {
	var seen []string
	for range n {
		name, err := once(conn)
		if err != nil {
			return nil, err
		}

		if !slices.Contains(seen, name) {
			seen = append(seen, name)
		}
	}

	slices.Sort(seen)

	return seen, nil
}

// counting is a listener that counts accepted connections.
type counting struct {
	net.Listener
	n *atomic.Int64
}

func (c counting) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}

	return conn, err
}

// underLoad starts a caller on conn, with an affinity, which some policies
// need.
func underLoad(t *testing.T, conn grpc.ClientConnInterface) *loadtest.Caller {
	t.Helper()

	return loadtest.Start(t, "the caller", func(ctx context.Context) (string, error) {
		return call(runtime.WithAffinity(ctx, "k"), conn)
	})
}

// instances returns the Instances of the service.
func (w *world) instances(opts ...grpc.DialOption) *runtime.Instances {
	w.t.Helper()

	i, err := w.registry.NewInstances(greeterAt(key),
		append([]grpc.DialOption{kit.Insecure}, opts...)...)
	kit.Must(w.t, err)

	return i
}

// ask calls each instance and returns the sorted names in the answers. It
// returns an error if a name is not that of the called instance.
func ask(ctx context.Context, i *runtime.Instances) ([]string, error) {
	var mu sync.Mutex
	var names []string
	err := runtime.Each(ctx, i, func(c grpc.ClientConnInterface) grpc.ClientConnInterface {
		return c
	},
		func(ctx context.Context, e runtime.Endpoint, c grpc.ClientConnInterface) error {
			name, err := call(ctx, c)
			if err != nil {
				return err
			}

			mu.Lock()
			defer mu.Unlock()

			names = append(names, name)

			if name != e.Instance {
				return fmt.Errorf("a call to %s was answered by %s", e.Instance, name)
			}

			return nil
		})

	slices.Sort(names)

	return names, err
}
