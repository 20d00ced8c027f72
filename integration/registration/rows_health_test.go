package registration

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// handWritten is a health service as people write them: a Check, and a Watch that answers once and ends with an error.
type handWritten struct {
	healthpb.UnimplementedHealthServer
	status atomic.Int32
}

func (h *handWritten) set(status healthpb.HealthCheckResponse_ServingStatus) {
	h.status.Store(int32(status))
}

func (h *handWritten) answer() *healthpb.HealthCheckResponse {
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_ServingStatus(h.status.Load())}
}

func (h *handWritten) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return h.answer(), nil
}

func (h *handWritten) Watch(_ *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	return errors.Join(stream.Send(h.answer()), errors.New("no more of that"))
}

func TestG20_HandWrittenHealth(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil)
	h := &handWritten{}
	h.set(healthpb.HealthCheckResponse_NOT_SERVING)
	s := w.registry.NewServer(grpc.NewServer())
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	if st := s.Status(); len(st) != 1 || st[0].State != runtime.StatePaused || len(w.keys(key)) > 0 {
		t.Errorf("announced while it is not healthy: %+v, %v", st, w.keys(key))
	}
	followed := func(keys int) {
		t.Helper()
		took := kit.Eventually(t, soon, "followed", func() bool { return len(w.keys(key)) == keys })
		report.Took(t, "G20", "a change followed, with a Watch that ends with an error", took)
	}
	for range 2 {
		h.set(healthpb.HealthCheckResponse_SERVING)
		followed(1)
		h.set(healthpb.HealthCheckResponse_NOT_SERVING)
		followed(0)
	}
	must(t, s.Withdraw(kit.Bounded(t, soon)))
}

// hanging is a health service that waits until it is released.
type hanging struct {
	healthpb.UnimplementedHealthServer
	began    chan struct{} // gets a value at each Check, if there is room
	released chan struct{}
}

func (h *hanging) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	select {
	case h.began <- struct{}{}:
	default:
	}
	<-h.released
	return &healthpb.HealthCheckResponse{Status: healthpb.HealthCheckResponse_SERVING}, nil
}
