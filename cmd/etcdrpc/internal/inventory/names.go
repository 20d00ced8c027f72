package inventory

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Command returns a line that runs a command of etcdrpc on the service.
func (s *Service) Command(name string, more ...string) string {
	return s.Etcdrpc(name, append([]string{s.Key}, more...)...)
}

// Guarded is like Command, for a command that changes the live config only if it is still at the service's revision.
func (s *Service) Guarded(name string, more ...string) string {
	return s.Command(fmt.Sprintf("%s --revision %d", name, s.ConfigRevision()), more...)
}

// List is a set of instance ids and addresses.
type List map[string]bool

// ListOf returns names as a List.
func ListOf(names []string) List {
	l := make(List, len(names))
	for _, name := range names {
		l[name] = true
	}
	return l
}

// Has reports whether the list contains the id or the address of an instance.
func (l List) Has(i *Instance) bool { return l[i.Instance] || l[i.Addr] }

// Find returns the instance whose id or address is name or, if there is none, the instance whose etcd key ends in name.
func (s *Service) Find(name string) (*Instance, error) { return s.Finder()(name) }

// Finder returns a function that finds many names faster than [Service.Find].
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
		return errors.New("no instance is registered under this key")
	}
	return fmt.Errorf("no such instance is registered: want one of %s", output.SomeOf(slices.Compact(s.Names())))
}

// Names returns the ids of the instances.
func (s *Service) Names() (names []string) {
	for _, i := range s.Instances {
		names = append(names, i.Instance)
	}
	return names
}

// Methods returns the full names of the methods that the servers of the instances publish.
func (s *Service) Methods() (names []string) {
	for text := range Count(Entries([]*Service{s}), endpoint.MethodsName) {
		for service := range strings.SplitSeq(text, ";") {
			name, list, _ := strings.Cut(service, "/")
			for method := range strings.SplitSeq(list, ",") {
				names = append(names, name+"/"+method)
			}
		}
	}
	slices.Sort(names)
	return names
}

// CompareNames orders names such as addresses, with numbers in them by value: 10.0.0.5 comes before 10.0.0.10.
func CompareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		m, n := digits(x), digits(y)
		if m == 0 || n == 0 {
			if x[0] != y[0] {
				return cmp.Compare(x[0], y[0])
			}
			x, y = x[1:], y[1:]
			continue
		}
		p, q := strings.TrimLeft(x[:m], "0"), strings.TrimLeft(y[:n], "0")
		if order := cmp.Or(cmp.Compare(len(p), len(q)), cmp.Compare(p, q)); order != 0 {
			return order
		}
		x, y = x[m:], y[n:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

// digits returns the number of digits that s begins with.
func digits(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }
