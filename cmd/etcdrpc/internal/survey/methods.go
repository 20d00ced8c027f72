package survey

import (
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Serves reports whether an instance says that it serves a method, or does not say what it serves. No instance says that of
// gRPC's own services.
func (i *Instance) Serves(method string) bool {
	if IsInfrastructure(strings.TrimPrefix(method, "/")) {
		return true
	}
	declared := DeclaredMethods(&i.Endpoint)
	return len(declared) == 0 || slices.ContainsFunc(declared, func(full string) bool { return IsMethod(full, method) })
}

// Methods returns the methods that the instances say they serve, each once.
func (s *Service) Methods() []string {
	var all []string
	for n := range s.Instances {
		all = append(all, DeclaredMethods(&s.Instances[n].Endpoint)...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// DeclaredMethods returns the methods that an endpoint says it serves, as "package.Service/Method".
func DeclaredMethods(e *endpoint.Endpoint) (all []string) {
	text := e.Metadata[endpoint.MethodsName]
	if len(text) > endpoint.MaxMethods {
		return nil
	}
	for service := range strings.SplitSeq(text, ";") {
		name, methods, ok := strings.Cut(service, "/")
		if !ok {
			continue
		}
		for method := range strings.SplitSeq(methods, ",") {
			all = append(all, name+"/"+method)
		}
	}
	return all
}

// IsMethod reports whether a method, "package.Service/Method", is meant by a name: all of it, without the package, or the
// method alone.
func IsMethod(full, name string) bool {
	name = strings.TrimPrefix(name, "/")
	rest, ok := strings.CutSuffix(full, name)
	return ok && (rest == "" || strings.HasSuffix(rest, "/") || strings.Contains(name, "/") && strings.HasSuffix(rest, "."))
}

// IsInfrastructure reports whether a gRPC service is one that servers have besides those that they publish, such as the
// health check.
func IsInfrastructure(service string) bool { return strings.HasPrefix(service, "grpc.") }

// Served returns the services and methods that the instances publish. known is false if one publishes none.
func (s *Service) Served() (served map[serviceconfig.MethodName]bool, known bool) {
	served = make(map[serviceconfig.MethodName]bool)
	for _, i := range s.Merged().Instances {
		declared := DeclaredMethods(&i.Endpoint)
		if len(declared) == 0 {
			return nil, false
		}
		for _, full := range declared {
			service, method, _ := strings.Cut(full, "/")
			served[serviceconfig.MethodName{Service: service}] = true
			served[serviceconfig.MethodName{Service: service, Method: method}] = true
		}
	}
	return served, len(served) > 0
}
