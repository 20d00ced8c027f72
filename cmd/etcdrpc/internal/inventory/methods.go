package inventory

import (
	"iter"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// DeclaredMethods yields the methods that an endpoint declares. It does not copy names: a service with a long name and many
// methods would take a thousand times the memory of the metadata.
func DeclaredMethods(e *endpoint.Endpoint) iter.Seq[serviceconfig.MethodName] {
	return func(yield func(serviceconfig.MethodName) bool) {
		text := e.Metadata[endpoint.MethodsName]
		if len(text) > endpoint.MaxMethods {
			return
		}
		for part := range strings.SplitSeq(text, ";") {
			service, methods, ok := strings.Cut(part, "/")
			if !ok {
				continue
			}
			for method := range strings.SplitSeq(methods, ",") {
				if !yield(serviceconfig.MethodName{Service: service, Method: method}) {
					return
				}
			}
		}
	}
}

// IsInfrastructure reports whether a service is one of gRPC's own, such as the health check. Servers do not publish such services.
func IsInfrastructure(service string) bool { return strings.HasPrefix(service, "grpc.") }

// Unserved returns the names, of methods or of whole services, that no instance publishes. If an instance publishes no names, it may
// serve all, and Unserved returns nil. gRPC's own services and the name of all services count as served.
func (s *Service) Unserved(names []serviceconfig.MethodName) []serviceconfig.MethodName {
	missing := make(map[serviceconfig.MethodName]bool)
	for _, name := range names {
		missing[name] = len(s.Instances) > 0 && name.Service != "" && !IsInfrastructure(name.Service)
	}
	for _, i := range s.Instances {
		undeclared := true
		for m := range DeclaredMethods(&i.Endpoint) {
			undeclared = false
			delete(missing, m)
			delete(missing, serviceconfig.MethodName{Service: m.Service})
		}
		if undeclared {
			return nil
		}
	}
	return slices.DeleteFunc(slices.Clone(names), func(name serviceconfig.MethodName) bool { return !missing[name] })
}
