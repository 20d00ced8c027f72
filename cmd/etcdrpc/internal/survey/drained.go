package survey

import (
	"errors"
	"fmt"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/liveconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Drained returns the addresses that clients keep new calls from by the live config. All entries of an address are drained
// with it, whichever of them clients know it by.
func (s *Service) Drained() map[string]bool {
	if s.Config == nil {
		return nil
	}
	policy := liveconfig.Policy(s.Config.Value)
	if policy == nil || len(policy.Drain) == 0 {
		return nil
	}
	return s.Merged().Drain(policy).Addrs
}

// Drain is what clients make of the list of a policy.
type Drain struct {
	Addrs     map[string]bool // that get no new calls
	NamesAll  bool            // the list names every instance, so clients ignore it
	NamesBase bool            // it names every instance in no lane, so clients ignore it for these
}

// Drain returns what clients make of the list of a policy, for a service with the instances that clients make.
func (s *Service) Drain(policy *serviceconfig.Etcd) Drain {
	if len(s.Instances) == 0 || s.CheckLeft(policy.Drain) != nil {
		return Drain{NamesAll: len(s.Instances) > 0}
	}
	placed := s.Placement(policy)
	d := Drain{Addrs: make(map[string]bool), NamesBase: placed != nil && s.namesBase(placed, policy.Drain)}
	for n := range s.Instances {
		if i := &s.Instances[n]; i.OnList(policy.Drain) && (!d.NamesBase || placed.Of[n] != nil) {
			d.Addrs[i.Addr] = true
		}
	}
	return d
}

// OnList reports whether a list of ids and addresses names an instance.
func (i *Instance) OnList(names []string) bool {
	return slices.Contains(names, i.Instance) || slices.Contains(names, i.Addr)
}

// Find returns the instance with an id or an address. An etcd key's last part will do as well.
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
		return !i.OnList(drained)
	})
	if !left {
		return errors.New("it is the last one that is not drained, and clients ignore a list that leaves them none: register another first")
	}
	return nil
}
