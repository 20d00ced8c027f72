package code

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	outlierpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/outlier"
)

// flaky serves calls, or fails them.
type flaky struct {
	outlierpb.UnimplementedFailuresServer
	outlierpb.UnimplementedEverythingServer
	failing atomic.Bool
	calls   atomic.Int64
}

func (s *flaky) Get(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	s.calls.Add(1)
	if s.failing.Load() {
		return nil, status.Error(codes.Internal, "out of order")
	}
	return new(emptypb.Empty), nil
}

// serveFlaky starts a server, and returns when it is in etcd.
func serveFlaky(t *testing.T, registry *runtime.Registry) *flaky {
	t.Helper()
	lis := kit.Listen(t)
	g, impl := grpc.NewServer(), new(flaky)
	announced := registry.NewServer(g)
	outlierpb.RegisterFailuresServerToEtcd(announced, impl)
	outlierpb.RegisterEverythingServerToEtcd(announced, impl)
	kit.Serve(t, g, lis)
	must(t, announced.Announce(within(t, soon), lis.Addr().String()))
	return impl
}

func plaintext() grpc.DialOption {
	return grpc.WithTransportCredentials(insecure.NewCredentials())
}

// TestLeftOut says that a server whose calls fail gets no more of them.
func TestLeftOut(t *testing.T) {
	registry := newRegistry(t)
	bad, good := serveFlaky(t, registry), serveFlaky(t, registry)
	bad.failing.Store(true)
	client, err := outlierpb.NewFailuresClientFromEtcd(registry, plaintext())
	must(t, err)
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
	serveFlaky(t, registry)
	client, err := outlierpb.NewEverythingClientFromEtcd(registry, plaintext())
	must(t, err)
	if _, err := client.Get(within(t, soon), new(emptypb.Empty)); err != nil {
		t.Error(err)
	}
}
