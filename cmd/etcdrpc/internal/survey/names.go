package survey

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

var version = regexp.MustCompile(`^(v[0-9]+([._-][0-9A-Za-z]+)*|[0-9]+(\.[0-9]+)+)$`)

// IsVersion reports whether a segment of a key looks like a version.
func IsVersion(segment string) bool { return version.MatchString(segment) }

// Word returns the key as a command takes it.
func (s *Service) Word() string { return output.Word(s.Within, s.Key) }

// OnList reports whether a list of ids and addresses names an instance.
func (i *Instance) OnList(names []string) bool {
	return slices.Contains(names, i.Instance) || slices.Contains(names, i.Addr)
}

// Find returns the instance with an id or an address. An etcd key's last part will do as well, where no instance has that id.
func (s *Service) Find(name string) (*Instance, error) {
	for _, is := range []func(i Instance) bool{
		func(i Instance) bool { return i.Instance == name || i.Addr == name },
		func(i Instance) bool { return i.Entry.Key == s.Key+"/"+name || i.Entry.Key == s.Key+name },
	} {
		if n := slices.IndexFunc(s.Instances, is); n >= 0 {
			return &s.Instances[n], nil
		}
	}
	if len(s.Instances) == 0 {
		return nil, errors.New("no instance is registered under this key")
	}
	names := make([]string, 0, len(s.Instances))
	for _, i := range s.Instances {
		names = append(names, i.Instance)
	}
	return nil, fmt.Errorf("no such instance is registered: there are %s", output.SomeOf(slices.Compact(names)))
}

// DrainNames returns what the list calls an instance: its id, or the address where clients may know it by another id. They do
// where they call its address by what another entry says. For home-made JSON it is both: it depends on the json_layout of a client
// which fields are the id and the address.
func (s *Service) DrainNames(i, called *Instance) []string {
	switch {
	case called.Instance != i.Instance:
		return []string{i.Addr}
	case i.Instance != i.Addr && isHomeMade(s.Key, called.Entry):
		return []string{i.Instance, i.Addr}
	}
	return []string{i.Instance}
}
