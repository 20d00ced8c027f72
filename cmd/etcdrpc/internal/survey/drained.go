package survey

import (
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

// Drained returns the list of the live config.
func (s *Service) Drained() []string {
	if s.Config == nil {
		return nil
	}
	return liveconfig.Drained(s.Config.Value)
}

// Find is the instance with an id or an address. An etcd key's last part will do as well.
func (s *Service) Find(name string) (*Instance, error) {
	for n := range s.Instances {
		i := &s.Instances[n]
		if name == i.Instance || name == i.Addr || i.Entry.Key == s.Key+"/"+name || i.Entry.Key == s.Key+name {
			return i, nil
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

// DrainName returns what the list calls an instance: its id, or the address where clients may know it by another id. They
// do where they call its address by what another entry says, and for home-made JSON, where it depends on the json_layout of a
// client which field is the id.
func (s *Service) DrainName(i, called *Instance) string {
	if called.Instance != i.Instance || isHomeMade(s.Key, called.Entry) {
		return i.Addr
	}
	return i.Instance
}

// CheckLeft refuses a list that leaves no instance: clients ignore such a one.
func (s *Service) CheckLeft(drained []string) error {
	left := slices.ContainsFunc(s.Instances, func(i Instance) bool {
		return !i.IsDrained(drained)
	})
	if !left {
		return errors.New("it is the last one that is not drained, and clients ignore a list that leaves them none: register another first")
	}
	return nil
}

// IsDrained reports whether a list of names has an instance.
func (i *Instance) IsDrained(drained []string) bool {
	return slices.Contains(drained, i.Instance) || slices.Contains(drained, i.Addr)
}
