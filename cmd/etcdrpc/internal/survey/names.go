package survey

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// Word returns the key as a command takes it.
func (s *Service) Word() string { return output.Word(s.Within, s.Key) }

// List is the ids and addresses that name some instances.
type List map[string]bool

// ListOf returns the list of names.
func ListOf(names []string) List {
	l := make(List, len(names))
	for _, name := range names {
		l[name] = true
	}
	return l
}

// Has reports whether the list names an instance.
func (l List) Has(i *Instance) bool { return l[i.Instance] || l[i.Addr] }

// Find returns the instance with an id or an address. An etcd key's last part will do as well, where no instance has that id.
func (s *Service) Find(name string) (*Instance, error) { return s.Finder()(name) }

// Finder returns Find, for many names.
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
	unknown := sync.OnceValue(s.unknown)
	return func(name string) (*Instance, error) {
		if i := named[name]; i != nil {
			return i, nil
		}
		return nil, unknown()
	}
}

// unknown is the error for a name that no instance has.
func (s *Service) unknown() error {
	if len(s.Instances) == 0 {
		return errors.New("no instance is registered under this key")
	}
	names := make([]string, 0, len(s.Instances))
	for _, i := range s.Instances {
		names = append(names, i.Instance)
	}
	return fmt.Errorf("no such instance is registered: there are %s", output.SomeOf(slices.Compact(names)))
}

// DrainName returns what the list calls an instance: its id, or the address where clients may know it by another id. They do
// where they call its address by what another entry says.
func (i *Instance) DrainName(called *Instance) string {
	if called.Instance != i.Instance {
		return i.Addr
	}
	return i.Instance
}
