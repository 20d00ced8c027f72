package survey

import (
	"cmp"
	"iter"
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
	silent := true
	for declared := range DeclaredMethods(&i.Endpoint) {
		if IsMethod(declared, method) {
			return true
		}
		silent = false
	}
	return silent
}

// maxMethods bounds the methods that are listed.
const maxMethods = 100

// Methods returns the methods that the instances say they serve, each once, or the first of many.
func (s *Service) Methods() (names []string) {
	var all []serviceconfig.MethodName
	sort := func() {
		slices.SortFunc(all, func(a, b serviceconfig.MethodName) int {
			return cmp.Or(strings.Compare(a.Service, b.Service), strings.Compare(a.Method, b.Method))
		})
		all = slices.Compact(all)
		all = all[:min(len(all), maxMethods)]
	}
	for n := range s.Instances {
		for declared := range DeclaredMethods(&s.Instances[n].Endpoint) {
			if all = append(all, declared); len(all) > 10*maxMethods {
				sort()
			}
		}
	}
	sort()
	for _, m := range all {
		names = append(names, m.Service+"/"+m.Method)
	}
	return names
}

// DeclaredMethods yields the methods that an endpoint says it serves. It copies none of their names: spelled out in full, those
// of a service with a long name would take a thousand times as much as the text that has it once.
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

// IsMethod reports whether a method is meant by a name: by all of "package.Service/Method", that without the package, or the
// method alone.
func IsMethod(m serviceconfig.MethodName, name string) bool {
	service, method, full := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !full {
		return service == m.Method
	}
	rest, ok := strings.CutSuffix(m.Service, service)
	return ok && method == m.Method && (rest == "" || strings.HasSuffix(rest, "."))
}

// IsInfrastructure reports whether a gRPC service is one that servers have besides those that they publish, such as the
// health check.
func IsInfrastructure(service string) bool { return strings.HasPrefix(service, "grpc.") }

// Unserved returns those of some services and methods that no instance publishes, and a service that one does. None is known to
// be unserved if an instance publishes nothing.
func (s *Service) Unserved(names []serviceconfig.MethodName) (unserved []serviceconfig.MethodName, example string) {
	missing := make(map[string]map[string]bool) // methods by service, "" for the service itself
	for _, name := range names {
		if missing[name.Service] == nil {
			missing[name.Service] = make(map[string]bool)
		}
		missing[name.Service][name.Method] = true
	}
	clients := s.Merged().Instances
	for n := range clients {
		silent := true
		var service string
		var methods map[string]bool
		for m := range DeclaredMethods(&clients[n].Endpoint) {
			if silent || m.Service != service {
				service, methods = m.Service, missing[m.Service]
				delete(methods, "")
				if n == 0 && silent || service < example {
					example = service
				}
			}
			silent = false
			delete(methods, m.Method)
		}
		if silent {
			return nil, ""
		}
	}
	if len(clients) == 0 {
		return nil, ""
	}
	return slices.DeleteFunc(slices.Clone(names), func(name serviceconfig.MethodName) bool { return !missing[name.Service][name.Method] }), example
}
