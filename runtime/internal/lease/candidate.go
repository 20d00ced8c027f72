package lease

import (
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// unprovenMost is how long a candidate stays on a lease that is not known to live, for another lease to be granted.
const unprovenMost = time.Second

// candidacy is what a slot knows of itself as a candidate.
type candidacy struct {
	elect    func(Candidacy) // as in Item; nil: this is another key
	election string          // as in Item
	told     Candidacy       // that elect was last called with

	barred   bool      // it is not to stand, as Handle.Stand says
	unproven time.Time // since when its lease is not known to live; zero: it is
	out      bool      // it is not to be in etcd now
	returns  bool      // it was out or is about to be, and is to be put again: the entry is registered meanwhile
	outErr   error     // why, unless it is barred or stale
	since    int64     // etcd's revision when the candidate was last seen to be gone, or may have been: one that was created by then is stale
}

// judge decides whether the entry's candidate is to be in etcd. One that cannot lead would keep others from it. It reports
// whether that is to be logged.
func (e *entry) judge(now time.Time, l *leases, revision int64) (changed bool) {
	s := e.candidate()
	if s == nil {
		return false
	}
	on := l.lease
	if s.placed() {
		on = s.lease
	}
	lapsed := over(now, l.get(on).confirmedUntil())
	if !s.placed() || lapsed {
		s.since = revision
	}
	switch {
	case !l.alive(now, on) || !lapsed:
		s.unproven = time.Time{}
	case s.unproven.IsZero():
		s.unproven = now
	}
	was := s.outErr
	switch s.outErr = nil; {
	case s.barred:
	case s.unreadable && !s.placed():
		s.outErr = fmt.Errorf("candidate %q cannot be read: %w", s.key, s.denial)
	case !s.unproven.IsZero() && now.Sub(s.unproven) >= unprovenMost:
		s.outErr = errors.Join(fmt.Errorf("candidate %q: whether lease %x lives is not known in time", s.key, int64(on)), l.ungranted)
	}
	wasOut := s.out
	s.out = s.barred || s.stale() || s.outErr != nil
	leaving := s.mayGo()
	s.returns = (s.returns || wasOut || leaving) && (leaving || !s.placed()) && !s.out && e.want == present
	return s.outErr != nil && was == nil
}

// stale reports whether the candidate is one that was gone, or may have been, and that a restored etcd has again. Others may
// have led since, with greater tokens. So it has to go, and another one to be created.
func (s *slot) stale() bool { return s.placed() && s.created != 0 && s.created <= s.since }

// outErr returns why the entry cannot stand for election, nil if it can, or has no candidate.
func (e *entry) outErr() error {
	s := e.candidate()
	if s == nil || s.outErr == nil {
		return nil
	}
	return fmt.Errorf("the instance does not stand for election: %w", s.outErr)
}

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

// mustResign reports whether s is a candidate that is not to be in etcd, or whose entry is not in etcd because etcd refuses
// it, as a full etcd does any put. It must not lead. One whose entry is there under its retired name goes on.
func (e *entry) mustResign(now time.Time, s *slot, l *leases) bool {
	return s.out || s.elect != nil && !e.placed(now, l) &&
		slices.ContainsFunc(e.others(), func(o *slot) bool { return !o.placed() && (o.refused != nil || e.refused != nil) })
}

// candidacyOf returns what is known of an entry's candidate. It is nothing unless the whole entry is in etcd, nor while a
// deletion of the candidate may be on its way: an entry that was paused when it was sent may have been resumed.
func (e *entry) candidacyOf(now time.Time, l *leases) Candidacy {
	s := e.candidate()
	if s == nil || e.want != present || s.out || s.stale() || !s.placed() || s.created == 0 || s.mayGo() || e.conflicted() || !e.placed(now, l) {
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
	if s == nil || s.told == is {
		return nil
	}
	s.told = is
	return s
}
