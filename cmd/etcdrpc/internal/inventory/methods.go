package inventory

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Serves reports whether an instance declares a method, or declares none. gRPC's own services are never declared, so they count
// as served.
func (i *Instance) Serves(method string) bool {
	if IsInfrastructure(strings.TrimPrefix(method, "/")) {
		return true
	}
	undeclared := true
	for declared := range DeclaredMethods(&i.Endpoint) {
		if IsMethod(declared, method) {
			return true
		}
		undeclared = false
	}
	return undeclared
}

// maxMethods bounds the methods that Methods returns.
const maxMethods = 100

// Methods returns the methods that the instances declare, sorted and without duplicates, at most maxMethods.
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

// DeclaredMethods yields the methods that an endpoint declares. It copies no names: written in full, the methods of a service
// with a long name would take a thousand times the memory of the metadata.
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

// IsMethod reports whether name denotes a method: as "package.Service/Method", without the package, or as the method alone.
func IsMethod(m serviceconfig.MethodName, name string) bool {
	service, method, full := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !full {
		return service == m.Method
	}
	rest, ok := strings.CutSuffix(m.Service, service)
	return ok && method == m.Method && (rest == "" || strings.HasSuffix(rest, "."))
}

// IsInfrastructure reports whether a service is one of gRPC's own, such as the health check. Servers do not publish these.
func IsInfrastructure(service string) bool { return strings.HasPrefix(service, "grpc.") }

// Unserved returns the names that no instance publishes, and an example of a published service. If an instance publishes
// nothing, it returns none: that instance may serve them.
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
		undeclared := true
		var service string
		var methods map[string]bool
		for m := range DeclaredMethods(&clients[n].Endpoint) {
			if undeclared || m.Service != service {
				service, methods = m.Service, missing[m.Service]
				delete(methods, "")
				if n == 0 && undeclared || service < example {
					example = service
				}
			}
			undeclared = false
			delete(methods, m.Method)
		}
		if undeclared {
			return nil, ""
		}
	}
	if len(clients) == 0 {
		return nil, ""
	}
	return slices.DeleteFunc(slices.Clone(names), func(name serviceconfig.MethodName) bool { return !missing[name.Service][name.Method] }), example
}
