package lease

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// heldLease is a lease of the session: the current one, or a retired one that is not revoked yet.
type heldLease struct {
	id         clientv3.LeaseID
	granted    time.Time
	life       time.Duration // the TTL, as etcd gave it
	expires    time.Time     // unless it is renewed
	proven     time.Time     // when the grant or the renewal was sent that is known to have been the last; see prove
	renewAt    time.Time     // no renewal out of turn before
	doubted    time.Time     // since when it may have been revoked, for a key on it has gone; zero: nothing says so
	tombstones []*slot       // the keys that were on it and must stay absent
	presumed   bool          // seemed to be gone, and may be back
	denied     bool          // etcd does not let us revoke it
	revoking   bool          // a revocation was sent, so that it may be gone
	retryAt    time.Time     // no revocation before
}

// held returns a lease of the session, nil if there is no such lease.
func (c *core) held(id clientv3.LeaseID) *heldLease {
	i := slices.IndexFunc(c.leases, func(h *heldLease) bool { return h.id == id })
	if i < 0 {
		return nil
	}
	return c.leases[i]
}

// alive reports whether a lease of the session has not expired, as far as known.
func (c *core) alive(now time.Time, id clientv3.LeaseID) bool {
	h := c.held(id)
	return h != nil && now.Before(h.expires)
}

// kept reports whether a lease is alive and no revocation of it was sent.
func (c *core) kept(now time.Time, id clientv3.LeaseID) bool {
	return c.alive(now, id) && !c.held(id).revoking
}

// undone reports whether earlier leases have yet to be revoked that etcd may have again, with keys that were deleted.
func (c *core) undone() bool {
	return slices.ContainsFunc(c.leases, func(h *heldLease) bool { return h.presumed && !h.denied })
}

// isOwn reports whether a lease was ever granted to this session.
func (c *core) isOwn(id clientv3.LeaseID) bool { return id != 0 && slices.Contains(c.everGranted, id) }

// granted takes in the lease that the entries are to hang on from now on.
func (c *core) granted(now time.Time, id clientv3.LeaseID, life time.Duration) {
	c.succeeded()
	c.leases = append(c.leases, &heldLease{id: id, granted: now, life: life, expires: now.Add(life)})
	c.everGranted = append(c.everGranted, id)
	c.lease, c.replace = id, nil
	c.scheduleCheck(now)
	for _, e := range c.entries {
		if e.want != gone {
			e.refused = nil
			e.rekey(id)
		}
	}
}

// replaceLease has the entries move from a lease to another one, if it is the current one. It need not be
// dead. Leases that are replaced young, one after the other, are replaced less and less often.
func (c *core) replaceLease(now time.Time, id clientv3.LeaseID, why error) {
	if id != c.lease || id == 0 || c.replace != nil {
		return
	}
	c.replace = why
	if now.Sub(c.held(id).granted) >= youngLease {
		c.hasty = false
		c.replacements.Reset()
		c.endings.Reset()
		return
	}
	if c.hasty {
		c.grantAt = later(c.grantAt, now.Add(c.jitter(c.replacements.Bound())))
	}
	c.hasty = true
}

// revocable returns a retired lease that no wanted key hangs on any more, nil if there is none. A key that
// cannot be moved keeps its lease until that expires.
func (c *core) revocable(now time.Time) *heldLease {
	for _, h := range c.leases {
		if h.id != c.lease && !now.Before(h.retryAt) && (!c.alive(now, h.id) || !c.holdsWanted(h.id)) {
			return h
		}
	}
	return nil
}

// holdsWanted reports whether a wanted key hangs on a lease and has yet to move to the current one.
func (c *core) holdsWanted(id clientv3.LeaseID) bool {
	return !c.closing && slices.ContainsFunc(c.entries, func(e *entry) bool {
		return e.want == present && !e.moved(c.lease) && slices.ContainsFunc(e.slots, func(s *slot) bool { return s.on(id) })
	})
}

// lost takes in that a lease does not exist any more, so that no write on it can arrive any more. err is nil
// if this session revoked it.
func (c *core) lost(now time.Time, id clientv3.LeaseID, err error) {
	c.succeeded()
	h := c.held(id)
	c.leases = slices.DeleteFunc(c.leases, func(h *heldLease) bool { return h.id == id })
	if h != nil && !h.presumed && err != nil {
		c.presumeAlive(now, id) // an etcd that does not know this lease may know those before
	}
	if c.lease == id {
		c.lease, c.replace = 0, nil
		if h != nil && now.Sub(h.granted) < youngLease {
			c.grantAt = now.Add(c.jitter(c.grants.Bound()))
		} else {
			c.grants.Reset()
		}
		c.blame(err)
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			if e.want != present && err != nil && s.on(id) {
				s.mayBeBack() // an etcd that does not know the lease may know those before
			}
			s.leaseGone(now, id)
		}
	}
	c.refresh(now)
}

// revokeDenied takes in that etcd does not let us revoke a lease. It is not renewed, so it expires; unwanted
// keys on it are deleted one by one.
func (c *core) revokeDenied(now time.Time, id clientv3.LeaseID) {
	c.succeeded()
	if h := c.held(id); h != nil {
		h.denied, h.revoking, h.retryAt = true, false, later(h.expires, now.Add(refusedMin))
	}
	c.refresh(now)
}

// revoked takes in that a retired lease is revoked.
func (c *core) revoked(now time.Time, id clientv3.LeaseID, revision int64) {
	c.atRevision(now, revision)
	c.lost(now, id, nil)
}
