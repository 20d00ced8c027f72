package runtime

import (
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/grpcserver"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/healthcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// RegistrationHealth is the name for which gRPC's health service reports whether a server's entries
// are in etcd. Where servers share a health service, it is the last one that has changed.
const RegistrationHealth = "etcd"

// serverHealth is the health service of a server, if it has one.
type serverHealth struct {
	given  healthpb.HealthServer // the caller's; nil: none
	own    *health.Server        // gRPC's own, which serve registers; nil: none
	setter *healthcheck.Setter   // of one of them; nil: neither can be told a status
}

// give takes the caller's health service.
func (h *serverHealth) give(server healthpb.HealthServer, group *registrar.Group) {
	h.given = server
	if settable, ok := server.(healthcheck.StatusSetter); ok {
		h.setter = group.HealthSetter(settable)
	}
}

// serve registers gRPC's own health service on s, whose services are in info, unless there is a health service.
// Only this server sets its status, so there is nothing to follow.
func (h *serverHealth) serve(s grpc.ServiceRegistrar, info map[string]grpc.ServiceInfo, group *registrar.Group) error {
	if _, ok := info[healthpb.Health_ServiceDesc.ServiceName]; ok {
		return nil
	}
	if grpcserver.Serving(s) {
		return errors.New("etcd: the gRPC server serves another listener already, and takes no health service any more: register one before that, or use Announce")
	}
	h.own = health.NewServer()
	for service := range info {
		h.own.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(s, h.own)
	h.setter = group.HealthSetter(h.own)
	return nil
}

// reporter returns a function that sets the status of [RegistrationHealth], nil if that cannot be set.
func (h *serverHealth) reporter() func(registered bool) {
	if h.setter == nil {
		return nil
	}
	return func(registered bool) {
		status := healthpb.HealthCheckResponse_NOT_SERVING
		if registered {
			status = healthpb.HealthCheckResponse_SERVING
		}
		h.setter.Set(status, RegistrationHealth)
	}
}

// drain turns the services NOT_SERVING until drained. It shuts gRPC's own health service down, but not the caller's, which
// other services may use.
func (h *serverHealth) drain(services []string) {
	switch {
	case h.own != nil:
		h.own.Shutdown()
	case h.setter != nil:
		h.setter.Turn(services...)
	}
}

// drained has the caller's health service say again what it said before.
func (h *serverHealth) drained(services []string) {
	if h.setter != nil {
		h.setter.Restore(services...)
	}
}
