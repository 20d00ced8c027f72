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

// judge says what becomes of each entry, and which instance leads.
func (s *Service) judge() {
	called, drained := s.Merged().ByAddr(), s.drained()
	for n := range s.Malformed {
		s.Malformed[n].State = Malformed
	}
	for n := range s.Instances {
		i := &s.Instances[n]
		i.Leads = len(s.Standing) > 0 && s.Standing[0].Instance == i.Instance
		i.Drained = drained[i.Addr]
		switch {
		case i.Leaving() || called[i.Addr] == nil:
			i.State = Leaving
		case i.Drained:
			i.State = Drained
		default:
			i.State = Registered
		}
	}
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
