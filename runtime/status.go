package runtime

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
)

// RegistryStatus is the state of a registry at one moment.
type RegistryStatus struct {
	Keys          []KeyStatus // in use, or recently used, sorted by key
	Registrations []Status    // of this process, sorted by key
	Etcd          EtcdStatus
}

// EtcdStatus is the state of a registry's connection to etcd.
type EtcdStatus struct {
	Endpoints []string // the endpoints that the etcd client was given

	// why no endpoint is connected; nil if one is connected, or no connection
	// is needed yet
	Err error
}

// KeyStatus is the state of one service key in a registry.
type KeyStatus struct {
	Key         string
	Connections int // the number of connections that are not idle

	// the endpoints are known, from etcd or from the snapshot directory
	Known bool

	Endpoints []Endpoint // the endpoints that clients use, sorted by instance

	// the number of Endpoints that have vanished from etcd and are kept for a
	// grace
	Held int

	HeldAddrs []string // the addresses of the held endpoints, sorted

	// the addresses of Endpoints that the live config drains, sorted; a
	// min_healthy_percent that only a proto file sets is ignored
	DrainedAddrs []string

	// in etcd, but not among Endpoints, because their owners are withdrawing
	// them
	Leaving []Endpoint

	Provisional   bool      // etcd may have newer endpoints
	Changed       time.Time // the time of the last change of Endpoints
	ServiceConfig string    // the live config in force, as JSON, or ""

	// why the live config in etcd is not in force; nil if it is, or if etcd has
	// none
	ConfigErr error

	Err error // why the key cannot be followed in etcd now; nil if it can

	// the number of connections with calls that go to the cluster of
	// WithFallback
	Away int
}

// Status returns the state of the registry, for debug pages and health checks.
// It does no I/O. Package statuspage shows it.
func (r *Registry) Status() RegistryStatus {
	var s RegistryStatus
	if r.client != nil {
		s.Etcd = EtcdStatus{Endpoints: r.endpoints(), Err: r.etcd.Down()}
	}

	for _, k := range r.followed() {
		state := k.State()
		ks := KeyStatus{
			Key:           k.Name,
			Connections:   k.Connections(),
			Known:         state.Known,
			Held:          len(state.Held),
			HeldAddrs:     slices.Sorted(maps.Keys(state.Held)),
			Provisional:   state.Provisional,
			Changed:       state.Changed,
			ServiceConfig: state.Live,
			ConfigErr:     state.LiveErr,
			Err:           state.Err,
			Away:          k.Away(), Endpoints: endpointsOf(state.Backends),
		}
		for _, item := range state.Leaving {
			ks.Leaving = append(ks.Leaving, Endpoint(item.Value.Endpoint))
		}

		ks.DrainedAddrs = drained(state)
		s.Keys = append(s.Keys, ks)
	}

	slices.SortFunc(s.Keys, func(a, b KeyStatus) int { return cmp.Compare(a.Key, b.Key) })

	if r.published != nil {
		s.Registrations = statusesOf(r.published.Status())
	}

	return s
}

// endpointsOf returns a new slice of the endpoints of backends.
func endpointsOf(backends []*discovery.Backend) []Endpoint {
	endpoints := make([]Endpoint, len(backends))
	for i, b := range backends {
		endpoints[i] = Endpoint(b.Endpoint)
	}

	return endpoints
}

// drained returns the sorted addresses of the endpoints that the live config
// drains.
func drained(state *discovery.State) (addrs []string) {
	// config is nil without a live config; a live config in force can be parsed
	config, _ := serviceconfig.Parse(state.Live)
	if etcd := config.Etcd(); etcd != nil {
		for e := range state.Drained(etcd) {
			addrs = append(addrs, e.Addr)
		}
	}

	slices.Sort(addrs)

	return addrs
}
