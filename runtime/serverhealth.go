package runtime

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// RegistrationHealth is the name under which gRPC's health service reports
// whether a server's entries are in etcd. If several servers share a health
// service, it reports the last change of any of them. The method
// SetServingStatus of the health service must not block.
const RegistrationHealth = "etcd"

// statusSetter is a health service whose statuses can be set, such as gRPC's
// own.
type statusSetter interface {
	SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus)
}

// serverHealth is the health service of a server, if it has one.
type serverHealth struct {
	given  healthpb.HealthServer // registered by the application, or nil; comparable
	own    *health.Server        // gRPC's own, registered by the method serve, or nil
	setter statusSetter          // given or own; nil if no status can be set

	stopping context.Context // whose end ends the Watch streams of the server
	endWatch context.CancelFunc
}

// problem returns a message if the health service is registered on the gRPC
// server, not on the Server, and "" otherwise.
func (h *serverHealth) problem(services map[string][]string) string {
	_, ok := services[healthpb.Health_ServiceDesc.ServiceName]
	if !ok || h.given != nil || h.own != nil {
		return ""
	}

	return "the health service is registered on the gRPC server, so NOT_SERVING removes no entry from etcd, and a probe of \"" +
		RegistrationHealth +
		"\" finds nothing: register it on the runtime.Server that NewServer returned, healthpb.RegisterHealthServer(server, healthServer)"
}

// serve registers gRPC's own health service on s, unless info, the services of
// s, has a health service. Only serverHealth sets the statuses of gRPC's own
// health service, so they are not watched. If the application has registered a
// health service, serve sets SERVING there for the services of group that
// another server's drain has set to NOT_SERVING.
func (h *serverHealth) serve(
	s grpc.ServiceRegistrar,
	info map[string]grpc.ServiceInfo,
	group *registrar.Group,
) {
	if _, ok := info[healthpb.Health_ServiceDesc.ServiceName]; ok {
		if h.setter != nil {
			for _, service := range group.Resume(h.given) {
				h.setter.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
			}
		}

		return
	}

	h.own = health.NewServer()
	for service := range info {
		h.own.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}

	for _, name := range group.Checked() {
		h.own.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}

	s.RegisterService(h.ending(&healthpb.Health_ServiceDesc), h.own)
	h.setter = h.own
}

// ending returns desc, the description of the health service, with handlers of
// Watch that end with h.stopping. Without that, a stopping server would wait
// for its Watch streams for the whole stop timeout: gRPC's own health service
// never ends them.
func (h *serverHealth) ending(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	ending := *desc
	ending.Streams = slices.Clone(desc.Streams)
	for i, watch := range desc.Streams {
		ending.Streams[i].Handler = func(service any, stream grpc.ServerStream) error {
			ctx, cancel := context.WithCancel(stream.Context())

			// gRPC cancels ctx if h.stopping does not
			defer context.AfterFunc(h.stopping, cancel)()

			return watch.Handler(service, serverStream{stream, ctx})
		}
	}

	return &ending
}

// reporter returns a function that sets the status of [RegistrationHealth], or
// nil if no status can be set.
func (h *serverHealth) reporter() func(registered bool) {
	if h.setter == nil {
		return nil
	}

	last := healthpb.HealthCheckResponse_UNKNOWN

	return func(registered bool) {
		status := healthpb.HealthCheckResponse_NOT_SERVING
		if registered {
			status = healthpb.HealthCheckResponse_SERVING
		}

		if status != last {
			last = status
			h.setter.SetServingStatus(RegistrationHealth, status)
		}
	}
}

// drain shuts down gRPC's own health service. It does not shut down the
// application's health service, which other servers may use: there, it sets
// NOT_SERVING for the services that only this server has. That status stays
// until a server serves them again.
func (h *serverHealth) drain(group *registrar.Group) {
	if h.own != nil {
		h.own.Shutdown()
	}

	if h.given == nil || h.setter == nil {
		return
	}

	for _, service := range group.Drain(h.given) {
		h.setter.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
	}
}
