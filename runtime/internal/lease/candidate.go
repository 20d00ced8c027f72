package lease

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// candidate returns the slot of the entry's candidate, nil if it has none.
func (e *entry) candidate() *slot {
	i := slices.IndexFunc(e.slots, func(s *slot) bool { return s.elect != nil && !s.retired })
	if i < 0 {
		return nil
	}
	return e.slots[i]
}

// elects reports whether the entry is to be in etcd with a candidate.
func (e *entry) elects() bool { return e.want == present && e.candidate() != nil }

// others returns the entry's keys beside a candidate.
func (e *entry) others() []*slot {
	return slices.DeleteFunc(slices.Clone(e.slots), func(s *slot) bool { return s.elect != nil || s.retired })
}

// mustResign reports whether s is a candidate whose entry is not in etcd because etcd refuses it. It must not lead. One
// whose entry is there under its retired name goes on.
func (e *entry) mustResign(now time.Time, s *slot, l *leases) bool {
	return s.elect != nil && !e.placed(now, l) &&
		slices.ContainsFunc(e.others(), func(o *slot) bool { return !o.placed() && o.refused != nil })
}

// candidacyOf returns what is known of an entry's candidate. It is nothing unless the whole entry is in etcd, nor while a
// deletion of the candidate may be on its way: an entry that was paused when it was sent may have been resumed.
func (e *entry) candidacyOf(now time.Time, l *leases) Candidacy {
	s := e.candidate()
	if s == nil || e.want != present || !s.placed() || s.created == 0 || s.mayGo() || e.conflicted() || !e.placed(now, l) {
		return Candidacy{}
	}
	until := l.get(s.lease).confirmedUntil()
	soonest := func(id clientv3.LeaseID) {
		if it := l.get(id).confirmedUntil(); it.Before(until) {
			until = it
		}
	}
	for _, id := range s.ambiguous {
		soonest(id)
	}
	if s.pending != nil {
		soonest(s.pending.lease)
	}
	if over(now, until) {
		return Candidacy{}
	}
	return Candidacy{s.key, s.created, until}
}

// newCandidacy returns the candidate if its candidacy has changed since this was last called, nil otherwise.
func (e *entry) newCandidacy(now time.Time, l *leases) *slot {
	s, is := e.candidate(), e.candidacyOf(now, l)
	if s == nil || s.candidacy == is {
		return nil
	}
	s.candidacy = is
	return s
}
