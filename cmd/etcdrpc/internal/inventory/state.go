package inventory

import (
	"strconv"
	"time"
)

// State is the state of an entry.
type State string

// The states of entries. None of them depends on the lease.
const (
	Registered State = "registered"
	Drained    State = "drained" // by a live config that clients accept
	Leaving    State = "leaving" // being withdrawn by its owner
	Malformed  State = "malformed"
)

// setStates sets the state of each entry, and marks the leader.
func (s *Service) setStates() {
	called, drained := s.Merged().ByAddr(), s.drained()
	for n := range s.Malformed {
		s.Malformed[n].State = Malformed
	}
	for n := range s.Instances {
		i := &s.Instances[n]
		i.Leads = len(s.Candidates) > 0 && s.Candidates[0].Instance == i.Instance
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

// LeaseTime is the time left on a lease and its granted TTL, in seconds.
type LeaseTime struct{ Left, Granted int64 }

// Expired reports whether the lease has expired or was revoked.
func (t LeaseTime) Expired() bool { return t.Left < 0 }

// RunsOut reports whether a lease missed two renewals: etcd's clients renew after a third of the TTL.
func (t LeaseTime) RunsOut() bool { return t.Left*3 <= t.Granted }

// StartedText returns the start time of a server as RFC 3339, or value itself if it is not a number of seconds.
func StartedText(value string) string {
	seconds, err := strconv.ParseUint(value, 10, 33)
	if err != nil {
		return value
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
