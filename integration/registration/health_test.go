package registration

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// A service with health_check on a server with gRPC's own health service, which knows only "".
func TestHealthServiceWithoutName_Warns(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	h := health.NewServer()
	s := w.registry.NewServer(grpc.NewServer())
	healthpb.RegisterHealthServer(s, h)
	basic.RegisterGreeterServer(s, &greeter{})
	s.Publish(&runtime.ServiceDesc{Name: "basic.Greeter", Key: key, ServiceConfig: `{"healthCheckConfig":{"serviceName":"basic.Greeter"}}`})
	kit.Must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	const cure = `SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)`
	if st := s.Status()[0]; st.State != runtime.StateRegistered || st.Err == nil || !strings.Contains(st.Err.Error(), cure) {
		t.Errorf("the health service does not know the name: %s (%v)", st.State, st.Err)
	}
	h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVING)
	kit.Eventually(t, soon, "cured", func() bool { return s.Status()[0].Err == nil })
	h.SetServingStatus("basic.Greeter", healthpb.HealthCheckResponse_SERVICE_UNKNOWN)
	kit.Eventually(t, soon, "said again", func() bool { return s.Status()[0].Err != nil })
	if n := w.logs.Count("questionable health service"); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	kit.Must(t, s.Withdraw(kit.Bounded(t, soon)))
}

// A health service that is registered on the gRPC server cannot be watched.
func TestHealthServiceOnGRPCServer_Warns(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	g := grpc.NewServer()
	healthpb.RegisterHealthServer(g, health.NewServer())
	s := w.registry.NewServer(g)
	basic.RegisterGreeterServerToEtcd(s, &greeter{})
	kit.Must(t, s.Announce(kit.Bounded(t, soon), addr(0)))
	const cure = "healthpb.RegisterHealthServer(server, healthServer)"
	if st := s.Status()[0]; st.State != runtime.StateRegistered || st.Err == nil || !strings.Contains(st.Err.Error(), cure) {
		t.Errorf("%s (%v)", st.State, st.Err)
	}
	if n := w.logs.Count(cure); n != 1 {
		t.Errorf("%d warnings, want 1", n)
	}
	kit.Must(t, s.Withdraw(kit.Bounded(t, soon)))
}
