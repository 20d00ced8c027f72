package runtime

import (
	"context"
	"errors"
	"reflect"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/registrar"
)

// RegistrationHealth is the name under which gRPC's health service reports whether a server's entries
// are in etcd. A health service that several servers share reports the last change of any of them.
const RegistrationHealth = "etcd"

// statusSetter is a health service whose statuses can be set, such as gRPC's own.
type statusSetter interface {
	SetServingStatus(service string, status healthpb.HealthCheckResponse_ServingStatus)
}

// serverHealth is the health service of a server, if it has one.
type serverHealth struct {
	given  healthpb.HealthServer // registered by the application, or nil
	own    *health.Server        // gRPC's own, registered by the method serve, or nil
	setter statusSetter          // given or own; nil if no status can be set
}

// problem returns a message if the health service is registered on the gRPC server, not on the Server, and "" otherwise.
func (h *serverHealth) problem(services map[string][]string) string {
	if _, ok := services[healthpb.Health_ServiceDesc.ServiceName]; !ok || h.given != nil || h.own != nil {
		return ""
	}
	return "the health service is registered on the gRPC server, so NOT_SERVING takes no entry out of etcd, and a probe of \"" + RegistrationHealth +
		"\" finds nothing: register it on the runtime.Server that NewServer returned, healthpb.RegisterHealthServer(server, healthServer)"
}

// serve registers gRPC's own health service on s, unless info, the services of s, has a health service. Only serverHealth
// sets the statuses of gRPC's own, so they are not watched.
func (h *serverHealth) serve(s grpc.ServiceRegistrar, info map[string]grpc.ServiceInfo, checked []string) error {
	if _, ok := info[healthpb.Health_ServiceDesc.ServiceName]; ok {
		return nil
	}
	if isServing(s) {
		return errors.New("etcd: the gRPC server serves another listener already, and takes no health service any more: register one before that, or use Announce")
	}
	h.own = health.NewServer()
	for service := range info {
		h.own.SetServingStatus(service, healthpb.HealthCheckResponse_SERVING)
	}
	for _, name := range checked {
		h.own.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	healthpb.RegisterHealthServer(s, h.own)
	h.setter = h.own
	return nil
}

// reporter returns a function that sets the status of [RegistrationHealth], or nil if no status can be set.
func (h *serverHealth) reporter() func(registered bool) {
	if h.setter == nil {
		return nil
	}
	return func(registered bool) {
		status := healthpb.HealthCheckResponse_NOT_SERVING
		if registered {
			status = healthpb.HealthCheckResponse_SERVING
		}
		briefly(func() { h.setter.SetServingStatus(RegistrationHealth, status) })
	}
}

// drain shuts down gRPC's own health service. A health service of the application, which other servers may use, it does not
// shut down: it sets the services that only this server has to NOT_SERVING until drained is called.
func (h *serverHealth) drain(group *registrar.Group) (drained func()) {
	if h.own != nil {
		h.own.Shutdown()
	}
	if h.given == nil || h.setter == nil {
		return func() {}
	}
	before := make(chan map[string]healthpb.HealthCheckResponse_ServingStatus, 1)
	briefly(func() {
		turned := make(map[string]healthpb.HealthCheckResponse_ServingStatus)
		defer func() { before <- turned }()
		for _, service := range group.Unshared(h.given) {
			if status := h.status(service); status != healthpb.HealthCheckResponse_NOT_SERVING {
				turned[service] = status
				h.setter.SetServingStatus(service, healthpb.HealthCheckResponse_NOT_SERVING)
			}
		}
	})
	return func() {
		briefly(func() {
			for service, status := range <-before {
				if h.status(service) == healthpb.HealthCheckResponse_NOT_SERVING { // the application has not changed it
					h.setter.SetServingStatus(service, status)
				}
			}
		})
	}
}

// status returns the status of a service in the application's health service.
func (h *serverHealth) status(service string) healthpb.HealthCheckResponse_ServingStatus {
	resp, err := h.given.Check(context.Background(), &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	}
	return resp.GetStatus()
}

// briefly runs call, which uses the application's health service, and waits at most a moment: that service may hang or panic.
func briefly(call func()) {
	ended, end := context.WithCancel(context.Background())
	end()
	bounded.Run(ended, func() {
		defer func() { _ = recover() }()
		call()
	})
}

// serverDepth bounds the search for a gRPC server within another value. *xds.GRPCServer has one in a field of interface type.
const serverDepth = 2

// isServing reports whether s, a *grpc.Server or a wrapper of one, has begun to serve. After that, registering a
// service makes gRPC end the process: without this check, the health service that Server adds would end a program that
// serves a second listener. gRPC has no method for this, so isServing reads an unexported field. It reads the field without
// the lock, which only matters to programs that register services while they call Serve, and gRPC forbids that. If s has
// no such field, isServing returns false. TestIsServing fails if gRPC keeps its state elsewhere.
func isServing(s any) bool {
	server := findServer(reflect.ValueOf(s), serverDepth)
	if !server.IsValid() {
		return false
	}
	serving := server.FieldByName("serve")
	return serving.IsValid() && serving.Kind() == reflect.Bool && serving.Bool()
}

var serverType = reflect.TypeFor[grpc.Server]()

// findServer returns the gRPC server in v, or the zero Value if there is none.
func findServer(v reflect.Value, depth int) reflect.Value {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		v = v.Elem()
	}
	if !v.IsValid() || v.Type() == serverType {
		return v
	}
	if v.Kind() != reflect.Struct || depth == 0 {
		return reflect.Value{}
	}
	for i := range v.NumField() {
		if kind := v.Field(i).Kind(); kind != reflect.Pointer && kind != reflect.Interface {
			continue
		}
		if found := findServer(v.Field(i), depth-1); found.IsValid() {
			return found
		}
	}
	return reflect.Value{}
}
