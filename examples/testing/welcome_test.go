package testing

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// soon bounds the wait for a change that takes a moment, so that a test fails instead of hanging.
const soon = 30 * time.Second

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// greeter is a server for the tests.
type greeter struct {
	greeterv1.UnimplementedGreeterServiceServer
	word string
}

func (g greeter) SayHello(_ context.Context, req *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Text: g.word + ", " + req.GetName(), Server: g.word}, nil
}

// inMemory starts a server that only the returned listener can dial.
func inMemory(t *testing.T, impl greeterv1.GreeterServiceServer) *bufconn.Listener {
	t.Helper()
	listener := bufconn.Listen(1 << 16)
	server := grpc.NewServer()
	greeterv1.RegisterGreeterServiceServer(server, impl)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener
}

// TestWithBufconn uses neither etcd nor a port: the code under test cannot know where its client comes from.
func TestWithBufconn(t *testing.T) {
	listener := inMemory(t, greeter{word: "hello"})
	conn, err := grpc.NewClient("passthrough:///greeter", plaintext,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })

	w := Welcomer{Greeter: greeterv1.NewGreeterServiceClient(conn)}
	texts, err := w.Welcome(t.Context(), "Ada", "Grace")
	if want := []string{"hello, Ada", "hello, Grace"}; err != nil || !slices.Equal(texts, want) {
		t.Errorf("Welcome returns %q, %v, want %q", texts, err, want)
	}
}

// registry returns a registry on the cluster, closed with the test.
func registry(t *testing.T, etcd *etcdtest.Cluster) *runtime.Registry {
	t.Helper()
	r := runtime.NewRegistry(etcd.Client(t))
	t.Cleanup(func() {
		if err := r.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// TestWithEtcdAndBufconn uses a real etcd and servers in memory: only this test's dialer understands
// the addresses in etcd.
func TestWithEtcdAndBufconn(t *testing.T) {
	r := registry(t, etcdtest.Start(t))
	servers := map[string]*bufconn.Listener{"first:1": inMemory(t, greeter{word: "hello"}), "second:1": inMemory(t, greeter{word: "hi"})}
	for addr := range servers {
		if err := r.Add(t.Context(), greeterv1.GreeterService_EtcdServiceDesc.Key, runtime.Endpoint{Addr: addr}); err != nil {
			t.Fatal(err)
		}
	}
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(r, plaintext,
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return servers[addr].DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	w := Welcomer{Greeter: client}
	seen := make(map[string]bool)
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for len(seen) < len(servers) { // until ctx ends, which fails the call
		texts, err := w.Welcome(ctx, "Ada")
		if err != nil {
			t.Fatalf("reached %v, then: %v; want both servers", seen, err)
		}
		word, _, _ := strings.Cut(texts[0], ",")
		seen[word] = true
	}
}

// TestOutage runs a real server and stops etcd: calls go on.
func TestOutage(t *testing.T) {
	etcd := etcdtest.Start(t)
	serve(t, registry(t, etcd))
	client, err := greeterv1.NewGreeterServiceClientFromEtcd(registry(t, etcd), plaintext)
	if err != nil {
		t.Fatal(err)
	}
	w := Welcomer{Greeter: client}
	if _, err := w.Welcome(t.Context(), "Ada"); err != nil {
		t.Fatal(err)
	}
	etcd.Cut()
	t.Cleanup(etcd.Restore) // before the registries close, which delete their entries
	if _, err := w.Welcome(t.Context(), "Grace"); err != nil {
		t.Errorf("a call while etcd is down: %v, want no error", err)
	}
}

// serve runs a server as a program does, until the test ends.
func serve(t *testing.T, r *runtime.Registry) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := r.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	greeterv1.RegisterGreeterServiceServerToEtcd(server, greeter{word: "hello"})
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
