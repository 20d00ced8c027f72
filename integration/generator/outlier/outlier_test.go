// Package outlier tests generated code that leaves failing servers out. It is a package
// of its own, for what it links makes a test large.
package outlier

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/outlier"
)

// soon bounds what is to happen at once: generous, for machines that are busy.
const soon = 20 * time.Second

// server serves calls, or fails them.
type server struct {
	outlier.UnimplementedFailuresServer
	outlier.UnimplementedEverythingServer
	failing atomic.Bool
	calls   atomic.Int64
}

func (s *server) Get(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	s.calls.Add(1)
	if s.failing.Load() {
		return nil, status.Error(codes.Internal, "out of order")
	}
	return new(emptypb.Empty), nil
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func newRegistry(t *testing.T, opts ...runtime.Option) *runtime.Registry {
	t.Helper()
	registry := runtime.NewRegistry(etcdtest.Start(t).Client(t), opts...)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), soon)
		defer cancel()
		if err := registry.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return registry
}

// serve starts a server, and returns when it is in etcd.
func serve(t *testing.T, registry *runtime.Registry) *server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g, impl := grpc.NewServer(), new(server)
	announced := registry.NewServer(g)
	outlier.RegisterFailuresServerToEtcd(announced, impl)
	outlier.RegisterEverythingServerToEtcd(announced, impl)
	done := make(chan error, 1)
	go func() { done <- g.Serve(lis) }()
	t.Cleanup(func() {
		g.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := announced.Announce(within(t, soon), lis.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return impl
}

func plaintext() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

// TestLeftOut says that a server whose calls fail gets no more of them.
func TestLeftOut(t *testing.T) {
	registry := newRegistry(t)
	bad, good := serve(t, registry), serve(t, registry)
	bad.failing.Store(true)
	client, err := outlier.NewFailuresClientFromEtcd(registry, plaintext())
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 2*soon)
	const enough = 100
	for served := 0; served < enough; served++ { // one after another
		_, err := client.Get(ctx, new(emptypb.Empty), grpc.WaitForReady(true))
		switch status.Code(err) {
		case codes.OK:
		case codes.Internal:
			served = 0
		default:
			t.Fatalf("%v; the bad server had %d calls, the good one %d", err, bad.calls.Load(), good.calls.Load())
		}
	}
	if bad.calls.Load() == 0 {
		t.Error("the bad server was never called")
	}
}

// TestEverything says that gRPC takes all of the options together, and calls work.
func TestEverything(t *testing.T) {
	registry := newRegistry(t, runtime.WithZone("eu-1a"))
	serve(t, registry)
	client, err := outlier.NewEverythingClientFromEtcd(registry, plaintext())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Get(within(t, soon), new(emptypb.Empty)); err != nil {
		t.Error(err)
	}
}

// TestServiceConfigs says that gRPC takes the service configs.
func TestServiceConfigs(t *testing.T) {
	for _, desc := range []*runtime.ServiceDesc{
		&outlier.Failures_EtcdServiceDesc,
		&outlier.Everything_EtcdServiceDesc,
		&outlier.Defaults_EtcdServiceDesc,
	} {
		conn, err := grpc.NewClient("passthrough:///none", plaintext(), grpc.WithDefaultServiceConfig(desc.ServiceConfig))
		if err != nil {
			t.Errorf("%s: %v", desc.Name, err)
			continue
		}
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
}
