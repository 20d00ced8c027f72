package discovery

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// State is the state of a key at one moment. It is immutable and shared by all readers.
type State struct {
	Sequence uint64 // grows with each change that matters to a call

	Known       bool                // the endpoints are known
	Backends    []*Backend          // the endpoints, held ones included, sorted by instance; until Known, from an earlier time
	Held        map[string]struct{} // addresses of Backends that etcd no longer has; nil: none
	Leaving     []*item             // in etcd, marked by their owners, and not in Backends
	Provisional bool                // the endpoints may be behind etcd
	Changed     time.Time           // when Backends last changed

	Live          string // the live service config in force, as canonical JSON; "": none
	LiveKnown     bool   // etcd has answered, or the disk has had one
	LiveConfirmed bool   // etcd has answered since the key is followed
	LiveErr       error  // why the one in etcd is not in force; nil: it is

	Err     error // why etcd cannot be followed now; nil: no error
	Refused bool  // Err is etcd's own answer, such as a missing permission

	forms // of Backends
	// names maps the instance ids of entries that share their address with one of Backends to its instance id.
	names map[string]string
}

// forms is a set of backends as gRPC takes it, with sums over the set.
type forms struct {
	Endpoints []resolver.Endpoint // in the order of the backends
	summary   *attr.Summary       // nil while no backends are known
	weights   uint64              // the sum of the weights in ring-hash
	scaled    bool                // Endpoints have smaller weights, which ring-hash can add up
}

// NameOf returns the instance id that Backends have for an instance, which differs if it has entries with several ids. It
// returns the instance itself if Backends do not have it.
func (s *State) NameOf(instance string) string {
	if instance == "" {
		return "" // most services have no leader
	}
	if _, ok := slices.BinarySearchFunc(s.Backends, instance, func(b *Backend, id string) int {
		return strings.Compare(b.Endpoint.Instance, id)
	}); ok {
		return instance
	}
	if id, ok := s.names[instance]; ok {
		return id
	}
	for _, b := range s.Backends {
		if b.Endpoint.Addr == instance {
			return b.Endpoint.Instance
		}
	}
	return instance
}

// Drain returns the endpoints that a policy drains.
func (s *State) Drain(policy *serviceconfig.Etcd) serviceconfig.Drain {
	value := func(i int, name string) string { return s.Backends[i].Endpoint.Field(name) }
	return policy.FollowDrain(len(s.Backends), value, func(i int) bool { _, ok := s.Held[s.Backends[i].Endpoint.Addr]; return ok })
}

// form sets the forms of a new set. It reads only backends that differ from old: a pass over thousands reads memory that is
// in no cache.
func (s *State) form(old *State) {
	before, behind := commonEnds(old.Backends, s.Backends)
	s.weights = old.weights
	for _, b := range old.Backends[before : len(old.Backends)-behind] {
		s.weights -= attr.RingWeight(b.grpc)
	}
	for _, b := range s.Backends[before : len(s.Backends)-behind] {
		s.weights += attr.RingWeight(b.grpc)
	}
	shift := attr.RingShift(s.weights, len(s.Backends))
	s.scaled = shift > 0
	if s.scaled || old.scaled {
		before, behind = 0, 0
	}
	s.Endpoints = make([]resolver.Endpoint, len(s.Backends))
	copy(s.Endpoints, old.Endpoints[:before])
	for i := before; i < len(s.Backends)-behind; i++ {
		s.Endpoints[i] = s.Backends[i].grpc
		if s.scaled {
			s.Endpoints[i] = attr.Scaled(s.Endpoints[i], shift)
		}
	}
	copy(s.Endpoints[len(s.Backends)-behind:], old.Endpoints[len(old.Backends)-behind:])
}

// emptyErr returns why there are no endpoints under a key, nil if there are some or they are not known yet. It does not wrap
// the status of a call to etcd, which would end the calls of the application.
func (s *State) emptyErr(key string) error {
	switch {
	case !s.Known && s.Refused:
		return errors.New(s.Err.Error())
	case !s.Known || len(s.Backends) > 0:
		return nil
	case s.Err != nil:
		return fmt.Errorf("etcd: no endpoint is registered under %q (as last known: %s)", key, s.Err.Error())
	}
	return fmt.Errorf("etcd: no endpoint is registered under %q", key)
}
