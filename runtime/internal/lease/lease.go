// Package lease keeps a process's desired keys in etcd, on one lease that it renews. It puts lost or changed keys back.
//
// The package compares the desired with the observed state of each key, and writes until the two are the same:
//
//	lease.go   the callers' types: items, states, errors
//	record.go  one key: its observed value, and whether that is in doubt
//	entry.go   the keys that are registered together, and their state
//	leases.go  the leases of a session: granted, renewed, retired, revoked
//	core.go    all entries and leases, and the times of checks
//	next.go    the calls to etcd, and the choice of the next one
//	events.go  the answers of etcd
//
// These files only decide. The others make the calls and wake waiters: session.go, calls.go, renew.go, watch.go and handle.go.
package lease

import (
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// tick is the longest time that the session's goroutine waits.
	tick = time.Second
	// CloseTimeout bounds the Close methods, in addition to their contexts.
	CloseTimeout = 5 * time.Second
)

// ErrClosed is the error of a session's methods after its Close.
var ErrClosed = errors.New("the registry is closed")

// ErrDropped is the error of an entry's methods after its Drop or Close.
var ErrDropped = errors.New("the registration is closed")

// ErrSuperseded is the error of a wait for a SetPaused once a later SetPaused has requested the opposite.
var ErrSuperseded = errors.New("superseded by a later call")

// State is the state of an entry.
type State int

// The states of an entry.
const (
	Registering State = iota // not in etcd yet
	Registered               // in etcd, on a lease that is being renewed
	Lost                     // was in etcd, is not there as far as known, and is being put back or withdrawn
	Conflict                 // another process holds a key of the entry, which is written again once the key is free
	Paused                   // taken out of etcd on request
	Closed                   // taken out of etcd for good

	Initial State = -1 // before the first state; only Options.Changed gets it
)

func (s State) String() string {
	names := [...]string{"registering", "registered", "lost", "conflict", "paused", "closed"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", int(s))
	}
	return names[s]
}

// Item is one key of an entry and its value.
type Item struct {
	Key   func(clientv3.LeaseID) string // a pure function of the lease on which the key is; most keys do not depend on it
	Value string
	// Leaving replaces Value just before the key is deleted. It has a mark that tells readers of the coming deletion. It is "" if the
	// layout has no room for the mark.
	Leaving string
}
