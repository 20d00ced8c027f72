package discovery

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// Backend is an endpoint of a service.
type Backend = model.Backend

// State is the state of a key at one moment. It is immutable and shared by all
// readers.
type State struct {
	// Endpoints are the Backends, or none while calls wait for etcd to replace
	// the last known ones
	model.KeyState

	// the endpoints, with held ones, sorted by instance; the last known ones if
	// Known is false
	Backends []*Backend

	// entries in etcd that their owners are withdrawing; not in Backends
	Leaving []*item

	Provisional bool      // the endpoints may be older than those in etcd
	Changed     time.Time // when Backends last changed

	// the live service config in force, as canonical JSON; "" if there is none
	Live string

	LiveKnown     bool  // Live is known: etcd has answered, or the disk had a config
	LiveConfirmed bool  // etcd has answered the read of Live since following began
	LiveErr       error // why the config in etcd is not in force, nil if it is

	Err error // why etcd cannot be followed now, nil if it can

	// names maps an instance id that is not in Backends to the id of the
	// backend at the same address, if entries share an address.
	names map[string]string
}

// Callable returns the Backends. If there are none, it returns the endpoints
// that are being withdrawn. If etcd has none of these, it returns those that
// have just been withdrawn, so that calls do not fail.
func (s *State) Callable() []*Backend {
	if len(s.Backends) == 0 && len(s.Leaving) > 0 {
		// merged like the other entries, into one endpoint for each address
		merged, _ := new(merger).merge(s.Leaving)
		return merged
	}

	return slices.Concat(s.Backends, s.Departed) // one of them is empty
}

// NameOf returns the id that an instance has in Backends. An instance may have
// several ids, and its address is always one. NameOf returns instance itself if
// the Backends do not have it.
func (s *State) NameOf(instance string) string {
	if instance == "" {
		return ""
	}

	_, ok := slices.BinarySearchFunc(s.Backends, instance, func(b *Backend, id string) int {
		return strings.Compare(b.Endpoint.Instance, id)
	})
	if ok {
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

// changesCalls reports whether calls may go elsewhere or fail otherwise than
// under old, for a reason other than the Backends.
func (s *State) changesCalls(old *State) bool {
	callsFail := !s.Known || len(s.Backends) == 0

	return len(s.Departed) < len(old.Departed) ||
		!maps.Equal(s.Held, old.Held) ||
		!maps.Equal(s.names, old.names) ||
		s.Live != old.Live ||
		s.LiveKnown != old.LiveKnown ||
		callsFail && !etcderr.Same(s.Err, old.Err)
}

// changesStatus reports whether s differs from old in a way that a status
// shows, but that does not affect calls.
func (s *State) changesStatus(old *State) bool {
	settled := s.Provisional != old.Provisional || s.LiveConfirmed != old.LiveConfirmed
	leaving := len(s.Backends) == 0 && len(s.Leaving) != len(old.Leaving)

	return s.Known && (settled || leaving) ||
		!etcderr.Same(s.Err, old.Err) ||
		!etcderr.Same(s.LiveErr, old.LiveErr)
}

// departedUntil returns the time until which the endpoints in Departed may be
// called, zero if there are none.
func (s *State) departedUntil() time.Time {
	if len(s.Departed) == 0 {
		return time.Time{}
	}

	return s.Changed.Add(departedGrace)
}

// Drained returns the endpoints that a policy drains.
func (s *State) Drained(policy *serviceconfig.Etcd) map[*endpoint.Endpoint]bool {
	config := planner.NewConfig(policy)

	all := make([]*endpoint.Endpoint, len(s.Backends))
	for i, b := range s.Backends {
		all[i] = &b.Endpoint
	}

	return config.FollowDrain(all, nil, config.Place(all), s.Held).Drained
}

// emptyErr returns why a key has no endpoints, nil if it has some or etcd has
// yet to answer. It does not wrap the gRPC status of a call to etcd: the
// application's calls would end with that status.
func (s *State) emptyErr(key string) error {
	switch {
	case !s.Known && Refused(s.Err):
		return errors.New(s.Err.Error())
	case !s.Known || len(s.Backends) > 0:
		return nil
	case s.Err != nil:
		return fmt.Errorf("etcd: no endpoint is registered under %q (as last known: %s)",
			key, s.Err.Error())
	}

	return fmt.Errorf("etcd: no endpoint is registered under %q", key)
}
