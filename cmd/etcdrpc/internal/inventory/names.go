package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Command returns a line that runs a command of etcdrpc on the service.
func (s *Service) Command(name string, more ...string) string {
	return s.Etcdrpc(name, append([]string{s.Key}, more...)...)
}

// Guarded is like Command, for a command that changes the live config only if
// the config is still at the service's revision.
func (s *Service) Guarded(name string, more ...string) string {
	return s.Command(fmt.Sprintf("%s --revision %d", name, s.ConfigRevision()), more...)
}

// DrainedNames returns the names in the list "drain" of a policy, which may be
// nil.
func DrainedNames(policy *serviceconfig.Etcd) (names []string) {
	if policy == nil {
		return nil
	}

	for _, d := range policy.Drain {
		names = append(names, d.Instance)
	}

	return names
}

// Finder returns a function that returns the instance whose id or address is
// name or, if there is none, whose etcd key ends in name.
func (s *Service) Finder() func(name string) (*Instance, error) {
	named := make(map[string]*Instance, len(s.Instances))
	add := func(name string, n int) { named[name] = cmp.Or(named[name], &s.Instances[n]) }

	for n, i := range s.Instances {
		add(i.Instance, n)
		add(i.Addr, n)
	}

	for n, i := range s.Instances {
		part := strings.TrimPrefix(i.Entry.Key, s.Key)
		add(part, n)
		add(strings.TrimPrefix(part, "/"), n)
	}

	errUnknown := sync.OnceValue(s.errUnknown)

	return func(name string) (*Instance, error) {
		if i := named[name]; i != nil {
			return i, nil
		}

		return nil, errUnknown()
	}
}

// errUnknown returns the error for a name that no instance has.
func (s *Service) errUnknown() error {
	if len(s.Instances) == 0 {
		return errors.New(
			"no instance that etcdrpc can read is registered under this key")
	}

	return fmt.Errorf("no such instance is registered: want one of %s",
		output.SomeOf(slices.Compact(s.Names())))
}

// Names returns the ids of the instances.
func (s *Service) Names() (names []string) {
	for _, i := range s.Instances {
		names = append(names, i.Instance)
	}

	return names
}

// Methods returns the full names of the methods that the servers of the
// instances publish.
func (s *Service) Methods() (names []string) {
	for _, i := range s.Instances {
		for m := range DeclaredMethods(&i.Endpoint) {
			names = append(names, m.Service+"/"+m.Method)
		}
	}

	slices.Sort(names)

	return slices.Compact(names)
}

// CompareNames orders names such as addresses, with numbers in them by value:
// 10.0.0.5 comes before 10.0.0.10.
func CompareNames(a, b string) int {
	x := a
	y := b

	for x != "" && y != "" {
		m := digits(x)
		n := digits(y)

		if m == 0 || n == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}

			x = x[1:]
			y = y[1:]

			continue
		}

		p := strings.TrimLeft(x[:m], "0")

		q := strings.TrimLeft(y[:n], "0")
		if order := cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q)); order != 0 {
			return order
		}

		x = x[m:]
		y = y[n:]
	}

	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(len(a), len(b)),
		cmp.Compare(a, b))
}

// digits returns the number of digits that s begins with.
func digits(s string) int {
	return len(s) - len(strings.TrimLeft(s, "0123456789"))
}

// DeclaredMethods yields the methods that an endpoint declares. It copies no
// names: with the service's name before each, the methods may take a thousand
// times the memory of the metadata.
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

// IsInfrastructure reports whether a service is one of gRPC's own, such as the
// health check. Servers do not publish such services.
func IsInfrastructure(service string) bool {
	return strings.HasPrefix(service, "grpc.")
}

// Unserved returns the names of methods or services that no instance publishes.
// It returns nil if an instance publishes no names, because it may serve all.
// gRPC's own services count as served, and so does the empty name, which means
// all services.
func (s *Service) Unserved(names []serviceconfig.MethodName) []serviceconfig.MethodName {
	missing := make(map[serviceconfig.MethodName]bool)
	for _, name := range names {
		missing[name] = len(s.Instances) > 0 &&
			name.Service != "" &&
			!IsInfrastructure(name.Service)
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

	return slices.DeleteFunc(slices.Clone(names),
		func(name serviceconfig.MethodName) bool { return !missing[name] })
}
