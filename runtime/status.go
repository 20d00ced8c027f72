package runtime

import (
	"cmp"
	"slices"
	"time"
)

// RegistryStatus is what a registry is doing at one moment.
type RegistryStatus struct {
	Keys          []KeyStatus // that connections use, or did of late, sorted by key
	Registrations []Status    // of this process, sorted by key
}

// KeyStatus is what a registry knows of one service key.
type KeyStatus struct {
	Key           string
	Connections   int        // that are not idle
	Known         bool       // etcd, or what stands in for it, has told the endpoints
	Endpoints     []Endpoint // in use, sorted by instance
	Held          int        // of Endpoints, those that vanished from etcd and are kept for a grace
	Provisional   bool       // the endpoints may be behind etcd
	Changed       time.Time  // when the endpoints last did
	ServiceConfig string     // the live one in force, as JSON; "" none
	Err           error      // why etcd cannot be followed now; nil: it is
}

// Status tells what the registry is doing, for debug pages and health checks of one's own. It does
// no I/O. Package statuspage shows it.
func (r *Registry) Status() RegistryStatus {
	var s RegistryStatus
	for _, k := range r.keysInUse() {
		state := k.State()
		ks := KeyStatus{
			Key: k.Name, Connections: k.Connections(), Known: state.Known, Held: state.Held,
			Provisional: state.Provisional, Changed: state.Changed, ServiceConfig: state.Live, Err: state.Err,
		}
		for _, b := range state.Backends {
			ks.Endpoints = append(ks.Endpoints, Endpoint(b.Endpoint))
		}
		s.Keys = append(s.Keys, ks)
	}
	slices.SortFunc(s.Keys, func(a, b KeyStatus) int { return cmp.Compare(a.Key, b.Key) })
	s.Registrations = r.regs.status()
	return s
}
