package registration

import (
	"context"
	"errors"
	"sync"
	"testing"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// handWritten is a health service as people write them: Check, and perhaps a Watch that does not last.
type handWritten struct {
	healthpb.UnimplementedHealthServer
	watch bool // answers once, then ends with an error

	mu     sync.Mutex
	status healthpb.HealthCheckResponse_ServingStatus
}

func (h *handWritten) set(serving bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.status = healthpb.HealthCheckResponse_NOT_SERVING; serving {
		h.status = healthpb.HealthCheckResponse_SERVING
	}
}

func (h *handWritten) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &healthpb.HealthCheckResponse{Status: h.status}, nil
}

func (h *handWritten) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if !h.watch {
		return h.UnimplementedHealthServer.Watch(req, stream)
	}
	resp, err := h.Check(stream.Context(), req)
	if err != nil {
		return err
	}
	return errors.Join(stream.Send(resp), errors.New("no more of that"))
}

func TestG20_HandWrittenHealth(t *testing.T) {
	kit.Night(t)
	for _, tt := range []struct {
		name  string
		watch bool
	}{{"Check only", false}, {"a Watch that ends with an error", true}} {
		t.Run(tt.name, func(t *testing.T) {
			leak.Beside(t)
			w := newWorld(t, nil)
			h := &handWritten{watch: tt.watch}
			h.set(false)
			s := w.registry.NewServer(grpc.NewServer())
			healthpb.RegisterHealthServer(s, h)
			basic.RegisterGreeterServerToEtcd(s, &greeter{})
			must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
			if st := s.Status(); len(st) != 1 || st[0].State != runtime.StatePaused || len(w.keys(key)) > 0 {
				t.Errorf("announced while it is not healthy: %+v, %v", st, w.keys(key))
			}
			for range 2 {
				for _, serving := range []bool{true, false} {
					h.set(serving)
					keys := 0
					if serving {
						keys = 1
					}
					took := kit.Eventually(t, soon, "followed", func() bool { return len(w.keys(key)) == keys })
					report.Took(t, "G20", "a change followed, with "+tt.name, took)
				}
			}
			must(t, s.Withdraw(kit.Bounded(t, soon)))
		})
	}
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
