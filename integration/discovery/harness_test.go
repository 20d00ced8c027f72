// Package discovery tests the client side against real etcd: every row of the fault list that is
// about discovering and resolving, by name.
package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

const key = "helloworld/greeter"

// soon bounds what is to happen at once: generous, for machines that are busy.
const soon = 10 * time.Second

// logs collects what the registry logs.
type logs struct {
	mu    sync.Mutex
	lines []string
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(p))
	return len(p), nil
}

// count is how many lines contain text.
func (l *logs) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// world is one etcd, one registry on it, and servers that are registered by hand.
type world struct {
	t        *testing.T
	etcd     *etcdtest.Cluster
	client   *clientv3.Client
	registry *runtime.Registry
	logs     *logs
}

func newWorld(t *testing.T, cluster []etcdtest.Option, opts ...runtime.Option) *world {
	t.Helper()
	w := &world{t: t, etcd: etcdtest.Start(t, cluster...), logs: &logs{}}
	w.client = w.etcd.Client(t)
	w.registry = w.newRegistry(w.client, opts...)
	return w
}

// newRegistry returns a registry that is closed with the test, which then has no goroutine of it left.
func (w *world) newRegistry(client *clientv3.Client, opts ...runtime.Option) *runtime.Registry {
	w.t.Helper()
	running := goleak.IgnoreCurrent()
	logger := slog.New(slog.NewTextHandler(w.logs, nil))
	registry := runtime.NewRegistry(client, append([]runtime.Option{runtime.WithLogger(logger)}, opts...)...)
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			w.t.Errorf("close the registry: %v", err)
		}
		_ = running
	})
	return registry
}

// conn returns a connection to the service.
func (w *world) conn(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	desc := basic.Greeter_EtcdServiceDesc
	conn, err := w.registry.NewClient(&desc, append(plaintext(), opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return conn
}

func plaintext() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
}

// put writes a value under the service's key, around what is tested.
func (w *world) put(k, v string, opts ...clientv3.OpOption) {
	w.t.Helper()
	if _, err := w.etcd.Admin().Put(bounded(w.t, soon), k, v, opts...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) delete(k string) {
	w.t.Helper()
	if _, err := w.etcd.Admin().Delete(bounded(w.t, soon), k); err != nil {
		w.t.Fatal(err)
	}
}

// server is a greeter that answers with its name.
type server struct {
	basic.UnimplementedGreeterServer
	name string
	addr string
	stop func()
}

func (s *server) SayHello(ctx context.Context, _ *basic.HelloRequest) (*basic.HelloReply, error) {
	if md, ok := metadata.FromIncomingContext(ctx); ok && len(md.Get("block")) > 0 {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return &basic.HelloReply{Message: s.name}, nil
}

// serve starts a server that is registered nowhere.
func (w *world) serve(name string) *server {
	w.t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	s := &server{name: name, addr: lis.Addr().String()}
	g := grpc.NewServer()
	basic.RegisterGreeterServer(g, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(lis) }()
	s.stop = sync.OnceFunc(func() { g.Stop(); <-done })
	w.t.Cleanup(s.stop)
	return s
}

// register puts a server's endpoint, as etcd's own naming writes it.
func (w *world) register(s *server) *server {
	w.t.Helper()
	w.put(key+"/"+s.name, fmt.Sprintf(`{"Op":0,"Addr":%q}`, s.addr))
	return s
}

func bounded(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until ok, and returns how long that took.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(start) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(start)
}
