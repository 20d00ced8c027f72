package survey

import (
	"strconv"
	"time"
)

// State is what becomes of an entry.
type State string

// The states of entries, as far as they show without a look at the lease.
const (
	Registered State = "registered"
	Drained    State = "drained" // by the live config, as clients go by it
	Leaving    State = "leaving" // its owner is withdrawing it
	Malformed  State = "malformed"
)

// States is what becomes of the entries of a service.
type States struct {
	called  map[string]*Instance
	drained map[string]bool
}

// States looks at what clients make of the entries.
func (s *Service) States() States { return States{s.Merged().ByAddr(), s.Drained()} }

// Called returns what clients call at the address of an entry; nil: nothing.
func (t States) Called(i *Instance) *Instance { return t.called[i.Addr] }

// Drained reports whether the address of an entry is drained, be the entry leaving or not.
func (t States) Drained(i *Instance) bool { return t.drained[i.Addr] }

// Of returns the state of an entry.
func (t States) Of(i *Instance) State {
	switch {
	case i.Err != nil:
		return Malformed
	case i.Leaving() || t.called[i.Addr] == nil:
		return Leaving
	case t.drained[i.Addr]:
		return Drained
	}
	return Registered
}

// LeaseTime is what is left of a lease, and what it was granted with, in seconds.
type LeaseTime struct{ Left, Granted int64 }

// Expired reports whether etcd knows the lease no more.
func (t LeaseTime) Expired() bool { return t.Left < 0 }

// RunsOut reports whether a lease missed two renewals: clients of etcd renew one when a third of its time has passed.
func (t LeaseTime) RunsOut() bool { return t.Left*3 <= t.Granted }

// StartedText returns when a server started, as a time if it is one.
func StartedText(value string) string {
	seconds, err := strconv.ParseUint(value, 10, 33)
	if err != nil {
		return value
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
