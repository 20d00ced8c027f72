// Package reconcile decides how a process's desired keys stay in etcd, on one lease. It makes no call and reads no clock.
//
// [Core] compares the desired with the observed state of each key, and asks for calls until the two are the same:
//
//	reconcile.go  the callers' types: items, states, errors
//	record.go     one key: its observed value, and whether that is in doubt
//	entry.go      the keys that are registered together, and their state
//	leases.go     the leases of a session: granted, renewed, retired, revoked
//	core.go       all entries and leases, and the times of checks
//	next.go       the calls to etcd, and the choice of the next one
//	events.go     the answers of etcd
package reconcile

import (
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// tick is the longest time that the session's goroutine waits.
const tick = time.Second

// ErrDropped is the error of an entry's methods after its Drop or Close.
var ErrDropped = errors.New("the registration is closed")

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

// Status is the state of an entry at one moment.
type Status struct {
	State State
	Key   string           // the first key of the entry
	Lease clientv3.LeaseID // 0 if the entry has no lease now
	Err   error            // why the entry is not registered
	Since time.Time        // when State was entered
}

// Item is one key of an entry and its value.
type Item struct {
	Key   func(clientv3.LeaseID) string // a pure function of the lease on which the key is; most keys do not depend on it
	Value string
	// Leaving replaces Value just before the key is deleted. It has a mark that tells readers of the coming deletion. It is "" if the
	// layout has no room for the mark.
	Leaving string
}
