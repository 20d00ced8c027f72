package registration

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
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
		kit.Eventually(t, soon, "followed", func() bool { return len(w.keys(key)) == keys })
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

// H8: a service with health_check, and gRPC's own health service as it comes, which knows "" alone.
func TestHealthServiceThatDoesNotKnowTheNameSaysSo(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	h := health.NewServer()
	s := w.registry.NewServer(grpc.NewServer())
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServer(s, &greeter{})
	s.Publish(&runtime.ServiceDesc{Name: "basic.Greeter", Key: key, ServiceConfig: `{"healthCheckConfig":{"serviceName":"basic.Greeter"}}`})
	must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	const cure = `SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)`
	if st := s.Status()[0]; st.State != runtime.StateRegistered || st.Err == nil || !strings.Contains(st.Err.Error(), cure) {
		t.Errorf("the health service does not know the name: %s (%v)", st.State, st.Err)
	}
	h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)
	kit.Eventually(t, soon, "cured", func() bool { return s.Status()[0].Err == nil })
	h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
	kit.Eventually(t, soon, "said again", func() bool { return s.Status()[0].Err != nil })
	if n := w.logs.Count("questionable health service"); n != 1 {
		t.Errorf("%d log lines", n)
	}
	must(t, s.Withdraw(kit.Bounded(t, soon)))
}

// G44: a health service that is registered on the gRPC server, before or after NewServer, cannot be followed.
func TestHealthServiceBeneathSaysSo(t *testing.T) {
	leak.Beside(t)
	for _, before := range []bool{true, false} {
		w := newWorld(t, nil)
		h, g := health.NewServer(), grpc.NewServer()
		if before {
			healthpb.RegisterHealthServer(g, h)
		}
		s := w.registry.NewServer(g)
		if !before {
			healthpb.RegisterHealthServer(g, h)
		}
		basic.RegisterGreeterServerToEtcd(s, &greeter{})
		must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
		const cure = "healthpb.RegisterHealthServer(server, healthServer)"
		if st := s.Status()[0]; st.State != runtime.StateRegistered || st.Err == nil || !strings.Contains(st.Err.Error(), cure) {
			t.Errorf("before NewServer %v: %s (%v)", before, st.State, st.Err)
		}
		if n := w.logs.Count(cure); n != 1 {
			t.Errorf("before NewServer %v: %d log lines", before, n)
		}
		must(t, s.Withdraw(kit.Bounded(t, soon)))
	}
}

// Health services that hang or panic: the server is announced, and its status says so.
func TestHealthServiceThatHangsOrPanicsSaysSo(t *testing.T) {
	leak.Beside(t)
	for does, h := range map[string]healthpb.HealthServer{
		"does not return": &hanging{began: make(chan struct{}, 1), released: make(chan struct{})},
		"panics":          panicking{},
	} {
		w := newWorld(t, nil)
		s := w.registry.NewServer(grpc.NewServer())
		healthpb.RegisterHealthServer(s, h)
		basic.RegisterGreeterServerToEtcd(s, &greeter{})
		must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
		kit.Eventually(t, soon, "said", func() bool {
			st := s.Status()[0]
			return st.State == runtime.StateRegistered && st.Err != nil && strings.Contains(st.Err.Error(), does)
		})
		must(t, s.Withdraw(kit.Bounded(t, soon)))
		if h, ok := h.(*hanging); ok {
			close(h.released)
		}
	}
}

type panicking struct {
	healthpb.UnimplementedHealthServer
}

func (panicking) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	panic("no health")
}
