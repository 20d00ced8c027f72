package docs

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	greeterv1 "github.com/etcdrpc/protoc-gen-go-etcd/examples/quickstart/gen/greeter/v1"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The functions dial and serve are copied from docs/setup.md: see onPage.

func dial(registry *runtime.Registry, key string, creds credentials.TransportCredentials) (greeterv1.GreeterServiceClient, error) {
	desc := greeterv1.GreeterService_EtcdServiceDesc
	desc.Key = key
	conn, err := registry.NewClient(&desc, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	return greeterv1.NewGreeterServiceClient(conn), nil
}

func serve(ctx context.Context, registry *runtime.Registry, key string, listener net.Listener, impl greeterv1.GreeterServiceServer) error {
	desc := greeterv1.GreeterService_EtcdServiceDesc
	desc.Key = key
	server := registry.NewServer(grpc.NewServer())
	greeterv1.RegisterGreeterServiceServer(server, impl)
	server.Publish(&desc)
	return server.Serve(ctx, listener)
}

// TestKeysFromConfiguration runs the code of the page: one service under two keys that no proto names.
func TestKeysFromConfiguration(t *testing.T) {
	onPage(t, "docs/setup.md", "setup_test.go")
	etcd := etcdtest.Start(t)
	registry := runtime.NewRegistry(etcd.Client(t))
	t.Cleanup(func() { registry.Close(context.Background()) })
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	keys := []string{"acme/staging/greeter", "acme/production/greeter"}
	for _, key := range keys {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serving, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- serve(serving, registry, key, listener, named{name: key}) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	for _, key := range keys {
		client, err := dial(registry, key, insecure.NewCredentials())
		if err != nil {
			t.Fatal(err)
		}
		// Without the wait and the retry that the proto has, the call would fail until the server is there.
		reply, err := client.SayHello(ctx, &greeterv1.SayHelloRequest{})
		if err != nil || reply.GetServer() != key {
			t.Errorf("a call of %s reached %q, %v", key, reply.GetServer(), err)
		}
	}
	if got := greeterv1.GreeterService_EtcdServiceDesc.Key; got != "acme/greeter" {
		t.Errorf("the generated description has the key %q now", got)
	}
}

// TestBadKeyFromConfiguration checks that both ends refuse a key that the plugin would have refused.
func TestBadKeyFromConfiguration(t *testing.T) {
	etcd := etcdtest.Start(t)
	registry := runtime.NewRegistry(etcd.Client(t))
	t.Cleanup(func() { registry.Close(context.Background()) })
	const key, want = "acme//greeter", `"acme//greeter"`
	if _, err := dial(registry, key, insecure.NewCredentials()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("dial: %v", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := serve(t.Context(), registry, key, listener, named{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("serve: %v", err)
	}
}

// onPage checks that the Go code of a page is in a file of this directory.
func onPage(t *testing.T, page, file string) {
	t.Helper()
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range all(t, "go") {
		if b.page != page {
			continue
		}
		found = true
		if !strings.Contains(string(source), b.text) {
			t.Errorf("%s:%d: %s does not have this code", b.page, b.line, file)
		}
	}
	if !found {
		t.Errorf("%s has no Go code", page)
	}
}

// named is a greeter that answers with its name.
type named struct {
	greeterv1.UnimplementedGreeterServiceServer
	name string
}

func (n named) SayHello(context.Context, *greeterv1.SayHelloRequest) (*greeterv1.SayHelloResponse, error) {
	return &greeterv1.SayHelloResponse{Server: n.name}, nil
}
