// Package lease keeps keys of this process in etcd for as long as the process wants them there. They are on
// one lease, which it renews. Keys that are lost or changed are put back.
//
// It compares what the process wants with what etcd has told, key by key, and writes where they differ, until they do not:
//
//	lease.go    what callers name: items, states, errors
//	answers.go  what etcd's errors say
//	record.go   one key: what etcd has there as far as known, and whether that is in doubt
//	entry.go    the keys that are registered together, and the state that they are in
//	leases.go   the leases of a session: granted, renewed, left, revoked
//	core.go     all entries and leases, and when to look at them
//	op.go       the calls that the core asks for
//	next.go     which call is next
//	told.go     what the answers say
//
// These decide, and do nothing else. The rest makes the calls, and tells who waits: session.go, run.go, calls.go,
// keepalive.go, watch.go, log.go, handle.go, and notifier.go.
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
	// CloseTimeout bounds the Close methods, for callers who do not.
	CloseTimeout = 5 * time.Second
)

// ErrClosed is what a session's methods return after its Close.
var ErrClosed = errors.New("the registry is closed")

// ErrDropped is what the methods of an entry return after its Drop or Close.
var ErrDropped = errors.New("the registration is closed")

// ErrSuperseded is what a wait for a SetPaused returns once a later SetPaused has said otherwise.
var ErrSuperseded = errors.New("a later call has said otherwise")

// State is how an entry stands.
type State int

// The states of an entry.
const (
	Registering State = iota // not in etcd yet
	Registered               // in etcd, on a lease that is being renewed
	Lost                     // was in etcd and, as far as known, is not; it is being put back
	Conflict                 // someone else holds a key of it; it is taken again when they let go
	Paused                   // taken out of etcd on demand
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
	Key   func(clientv3.LeaseID) string // a pure function; most ignore the lease
	Value string
	// Leaving is put in the place of Value just before the key is deleted, to tell readers that its owner
	// deletes it. "": there is no room for such a mark.
	Leaving string
}
