package runtime

import (
	"cmp"
	"slices"
	"time"
)

// RegistryStatus is the state of a registry at one moment.
type RegistryStatus struct {
	Keys          []KeyStatus // in use, or used lately, sorted by key
	Registrations []Status    // of this process, sorted by key
}

// KeyStatus is the state of one service key in a registry.
type KeyStatus struct {
	Key           string
	Connections   int        // the number of connections that are not idle
	Known         bool       // the endpoints are known, from etcd or from the snapshot directory
	Endpoints     []Endpoint // in use, sorted by instance
	Held          int        // how many of Endpoints have vanished from etcd and are kept for a grace
	Provisional   bool       // the endpoints may be behind etcd
	Changed       time.Time  // when the endpoints last changed
	ServiceConfig string     // the live one in force, as JSON; "" none
	ConfigErr     error      // why the live one in etcd is not in force; nil: it is, or there is none
	Err           error      // why etcd cannot be followed now; nil: it is
}

// Status returns the state of the registry, for debug pages and health checks. It does no I/O. Package statuspage
// shows it.
func (r *Registry) Status() RegistryStatus {
	var s RegistryStatus
	for _, k := range r.allKeys() {
		state := k.State()
		ks := KeyStatus{
			Key: k.Name, Connections: k.Connections(), Known: state.Known, Held: len(state.Held),
			Provisional: state.Provisional, Changed: state.Changed, ServiceConfig: state.Live, ConfigErr: state.LiveErr, Err: state.Err,
		}
		for _, b := range state.Backends {
			ks.Endpoints = append(ks.Endpoints, Endpoint(b.Endpoint))
		}
		s.Keys = append(s.Keys, ks)
	}
	slices.SortFunc(s.Keys, func(a, b KeyStatus) int { return cmp.Compare(a.Key, b.Key) })
	if r.published != nil {
		s.Registrations = statusesOf(r.published.Status())
	}
	return s
}
