package lease

import (
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// marginOf is the share of a TTL, one in so many, by which a candidate counts its lease as ended before etcd can end
	// it. The clocks of the two may run apart by that much.
	marginOf = 10
	// provesIn is the share of a TTL, one in so many, after which the lease of a candidate is renewed out of turn.
	provesIn = 4
)

// Candidacy is what is known of a candidate's key in etcd. The zero value says that the key may be gone.
type Candidacy struct {
	Key     string
	Created int64     // the key's create revision
	Until   time.Time // the key is there until then, unless someone deletes it by force
}

// prove takes in that etcd renewed a lease on a request that was sent at a time, so that the lease lives for its TTL
// from then on at least. The answers to the etcd client's own keepalives prove nothing: nobody knows when the request
// was sent.
//
// A renewal that was sent when the time before had run out proves nothing either. etcd may have decided to end the lease
// by then, and a new etcd leader renews it all the same while the old one's decision is under way.
func (c *core) prove(sent time.Time, id clientv3.LeaseID) {
	if h := c.held(id); h != nil && sent.After(h.proven) && !over(sent, h.provenUntil()) {
		h.proven = sent
	}
}

// over reports whether a time has come by either clock. The monotonic one may stand still while the machine sleeps.
func over(now, until time.Time) bool {
	return !now.Before(until) || !now.Round(0).Before(until.Round(0))
}

// provenUntil returns until when a lease is known to live, the zero time if that is not known.
func (h *heldLease) provenUntil() time.Time {
	if h == nil || h.proven.IsZero() || h.revoking || h.presumed {
		return time.Time{}
	}
	return h.proven.Add(h.life - h.life/marginOf)
}

// proveGrant takes in that the lease was granted on a request that was sent at a time.
func (c *core) proveGrant(sent time.Time, id clientv3.LeaseID) {
	if h := c.held(id); h != nil {
		h.proven = sent
	}
}

// elects reports whether an entry that is to be in etcd has a candidate.
func (c *core) elects() bool {
	return !c.closing && slices.ContainsFunc(c.entries, func(e *entry) bool { return e.want == present && e.candidate() != nil })
}

// keepProven has the lease replaced if a candidate needs it and its time has run out: no renewal can prove it any more.
func (c *core) keepProven(now time.Time) {
	if h := c.held(c.lease); h != nil && c.elects() && over(now, h.provenUntil()) {
		c.replaceLease(now, h.id, fmt.Errorf("lease %x was not renewed in time for an election", int64(h.id)))
	}
}

// candidate returns the slot of the entry's candidate, nil if it has none.
func (e *entry) candidate() *slot {
	i := slices.IndexFunc(e.slots, func(s *slot) bool { return s.elect != nil && !s.retired })
	if i < 0 {
		return nil
	}
	return e.slots[i]
}

// others returns the entry's keys beside a candidate.
func (e *entry) others() []*slot {
	return slices.DeleteFunc(slices.Clone(e.slots), func(s *slot) bool { return s.elect != nil || s.retired })
}

// barred reports whether s is a candidate whose entry is not in etcd because etcd refuses it. It must not lead. One whose
// entry is there under its retired name goes on.
func (c *core) barred(now time.Time, e *entry, s *slot) bool {
	return s.elect != nil && !c.placed(now, e) &&
		slices.ContainsFunc(e.others(), func(o *slot) bool { return !o.placed() && o.refused != nil })
}

// electable reports whether a candidate may be put in one transaction with steps. Its entry must be in etcd, or be put
// there by them. They must have no other candidate for the election: the two would share their create revision, and so
// the token of their terms.
func (c *core) electable(now time.Time, st *step, steps []step) bool {
	for _, o := range st.e.others() {
		if !(o.placed() && c.kept(now, o.lease)) && !slices.ContainsFunc(steps, func(st step) bool { return st.s == o }) {
			return false
		}
	}
	return !slices.ContainsFunc(steps, func(o step) bool { return o.s.elect != nil && o.s.election == st.s.election })
}

// createdBy returns the create revision of a key after a put of it, 0 if that is not known.
func createdBy(st *step, revision int64) int64 {
	switch {
	case st.kind != put:
		return 0
	case st.rev == 0:
		return revision
	case st.s.has == ours && st.s.rev == st.rev:
		return st.s.created
	}
	return 0
}

// candidacy returns what is known of an entry's candidate. It is nothing unless the whole entry is in etcd, nor while a
// deletion of the candidate may be on its way: an entry that was paused when it was sent may have been resumed.
func (c *core) candidacy(now time.Time, e *entry) Candidacy {
	s := e.candidate()
	if s == nil || c.closing || e.want != present || !s.placed() || s.created == 0 || s.mayGo() || e.conflicted() || !c.placed(now, e) {
		return Candidacy{}
	}
	until := c.held(s.lease).provenUntil()
	soonest := func(id clientv3.LeaseID) {
		if other := c.held(id).provenUntil(); other.Before(until) {
			until = other
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

// newCandidacy is a candidacy and who is to hear of it.
type newCandidacy struct {
	Candidacy
	tell func(Candidacy)
}

// candidacies returns the candidacies that have changed since it was last called.
func (c *core) candidacies(now time.Time) []newCandidacy {
	var changed []newCandidacy
	for _, e := range c.entries {
		s := e.candidate()
		if s == nil {
			continue
		}
		if is := c.candidacy(now, e); is != s.candidacy {
			s.candidacy = is
			changed = append(changed, newCandidacy{is, s.elect})
		}
	}
	return changed
}
