package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// A lease is revoked again after revokeAgain without an answer, perhaps by
	// another member. Each try lasts for revokeTimeout.
	revokeAgain   = time.Second
	revokeTimeout = 10 * time.Second

	// askMin and askMax bound the pause between reads of the keys on a lease.
	askMin = time.Second
	askMax = 30 * time.Second

	// A lease is renewed after 1/renewAfter of its TTL, as by the etcd client.
	// Until etcd answers, the renewal is repeated after each 1/renewAgain of
	// the TTL: a member may be dead.
	renewAfter = 3
	renewAgain = 8

	// overdueAfter is how long etcd may fail to answer a renewal, or any other
	// call, before the status of entries reports it.
	overdueAfter = 10 * time.Second
)

var errNoRenewal = errors.New("etcd has not answered a renewal since")

// heldLease is a lease of the session: the current one, or a retired one until
// it is revoked.
type heldLease struct {
	id      clientv3.LeaseID
	life    time.Duration // the TTL that etcd granted
	expires time.Time     // when etcd ends the lease unless it is renewed
	renewAt time.Time     // when to renew the lease next
	denied  bool          // etcd has denied the revocation of the lease

	// the earliest time of the next revocation, zero if none was sent
	revokeAt time.Time

	// ask is the gate of reads of the keys on the lease. It is nil unless the
	// lease may have strays, which are keys without an entry. An unanswered put
	// of an absent key may arrive late. A restored etcd may have keys that were
	// deleted before.
	ask *gate
}

// revoking reports whether a revocation was sent, so that the lease may be
// gone.
func (h *heldLease) revoking() bool {
	return !h.revokeAt.IsZero() && !h.denied
}

// get returns a lease of the session, nil if the session does not hold it.
func (c *Core) get(id clientv3.LeaseID) *heldLease {
	i := slices.IndexFunc(c.held, func(h *heldLease) bool { return h.id == id })
	if i < 0 {
		return nil
	}

	return c.held[i]
}

// alive reports whether a lease of the session has not expired, as far as
// known.
func (c *Core) alive(now time.Time, id clientv3.LeaseID) bool {
	h := c.get(id)
	return h != nil && now.Before(h.expires)
}

// isOwn reports whether a lease was ever granted to this session.
func (c *Core) isOwn(id clientv3.LeaseID) bool {
	return id != 0 && slices.Contains(c.everGranted, id)
}

// OnLateGrant records a grant that came after its call had timed out. If a
// lease is still needed, the granted one becomes the current one, and is
// renewed at once. Otherwise it is held as a spare, and revoked.
func (c *Core) OnLateGrant(now time.Time, id clientv3.LeaseID, life time.Duration) {
	if c.lease != 0 || c.closing || !c.leaseNeeded(present) {
		c.hold(now, id, life)
		return
	}

	c.onGrant(now, id, life)
	c.get(id).renewAt = now
}

// hold adds a granted lease.
func (c *Core) hold(now time.Time, id clientv3.LeaseID, life time.Duration) {
	c.held = append(c.held, &heldLease{
		id:      id,
		life:    life,
		expires: now.Add(life),
		renewAt: now.Add(life / renewAfter),
	})

	c.everGranted = append(c.everGranted, id)
}

// onGrant makes a granted lease the current one.
func (c *Core) onGrant(now time.Time, id clientv3.LeaseID, life time.Duration) {
	c.succeeded()
	c.hold(now, id, life)
	c.lease = id
	c.grants.shut(now, c.jitter) // should the lease be lost before its first renewal
	c.scheduleCheck(now)

	for _, e := range c.entries {
		c.rekey(e)
	}

	c.markAllDirty()
	c.refresh(now)
}

// onGrantFailed records that no lease was granted. The grant is retried even
// after a refusal: the permission may be granted later.
func (c *Core) onGrantFailed(now time.Time, err error) {
	err = fmt.Errorf("grant a lease: %w", err)
	if !isRefusal(err) {
		c.failed(now, err)
		return
	}

	c.succeeded()
	c.grants.shut(now, c.jitter)

	for _, e := range c.dirty {
		if e.desired == present && e.state != Registered {
			e.refused = err
		}
	}

	c.warn(now, err, unregistered)
	c.refresh(now)
}

// replaceLease moves the entries to another lease. The old lease is renewed
// until no desired entry is on it, and then revoked.
func (c *Core) replaceLease(why error) {
	c.markAllDirty()

	if c.lease != 0 {
		c.cause(why)
	}

	c.lease = 0

	for r := range c.records() {
		r.gate.at = time.Time{}
	}
}

// onLeaseLost records that a lease and its keys no longer exist. err is nil if
// this session revoked it.
func (c *Core) onLeaseLost(now time.Time, id clientv3.LeaseID, err error) {
	c.succeeded()
	h := c.get(id)
	c.held = slices.DeleteFunc(c.held, func(o *heldLease) bool { return o == h })
	c.markAllDirty()

	for r := range c.records() {
		if r.on(id) {
			r.observed = nil
		}

		if r.observed == nil {
			// the key was deleted with the lease, so earlier deletions and
			// refusals do not count
			r.gate.at = time.Time{}
		}
	}

	if id == c.lease {
		c.lease = 0
		c.cause(err)
	}

	c.refresh(now)
}

// Renewals returns the leases to renew now, each with its TTL, and how long to
// wait before asking again. It renews the current lease, and retired ones with
// keys that have yet to move.
func (c *Core) Renewals(
	now time.Time,
) (due map[clientv3.LeaseID]time.Duration, wait time.Duration) {
	due = make(map[clientv3.LeaseID]time.Duration)
	wait = tick
	for _, h := range c.held {
		if h.id != c.lease && !c.needed(h.id) {
			continue
		}

		if !now.Before(h.renewAt) {
			due[h.id] = h.life
			h.renewAt = now.Add(h.life / renewAgain)
		}

		wait = min(wait, h.renewAt.Sub(now))
	}

	return due, wait
}

// needed reports whether a desired entry has, or may have, keys on a retired
// lease, and has yet to move to the current lease.
func (c *Core) needed(id clientv3.LeaseID) bool {
	return slices.ContainsFunc(c.dirty, func(e *Entry) bool {
		return e.desired == present && !c.placedOn(e, c.lease) &&
			slices.ContainsFunc(e.records, func(r *record) bool {
				return r.on(id) || r.doubted
			})
	})
}

// onRevokeFailed records that a lease was not revoked.
func (c *Core) onRevokeFailed(now time.Time, id clientv3.LeaseID, err error) {
	h := c.get(id)
	switch {
	case isLeaseNotFound(err):
		c.onLeaseLost(now, id, err)
		return
	case isRefusal(err) && h != nil: // the lease is not renewed, and expires
		c.succeeded()
		h.denied = true
		h.revokeAt = latest(h.expires, now.Add(refusedMin))
		c.markAllDirty() // so that the lease's keys are deleted one by one

	default:
		c.failed(now, fmt.Errorf("revoke lease %x: %w", id, err))

		if h != nil {
			h.revokeAt = now
		}
	}

	c.refresh(now)
}

// OnRenewal records that etcd renewed a lease. A lower revision than the last
// known one starts a check of the keys: the member may lag behind, or etcd was
// restored.
func (c *Core) OnRenewal(
	now time.Time,
	id clientv3.LeaseID,
	life time.Duration,
	revision int64,
) {
	if h := c.get(id); h != nil {
		h.expires = now.Add(life)
		h.renewAt = now.Add(life / renewAfter)
		c.grants.open()
	}

	if revision != 0 && revision < c.revision {
		c.CheckSoon(now)
	}
}

// OnRenewalFailed records that etcd did not renew a lease. After a refusal the
// lease is replaced: it may hold another user's key, which we may not write.
func (c *Core) OnRenewalFailed(now time.Time, id clientv3.LeaseID, err error) {
	err = fmt.Errorf("renew lease %x: %w", id, err)
	switch {
	case c.get(id) == nil:
	case isLeaseNotFound(err):
		c.onLeaseLost(now, id, err)
	case isRefusal(err) && id == c.lease:
		c.replaceLease(err)
		c.refresh(now)
	}
}

// onRestored handles a restore of etcd, which may have brought back old values
// of our keys. The lease is replaced, and then revoked with its keys. A lease
// that only the restored state has is not renewed, so it expires within its
// TTL.
func (c *Core) onRestored() {
	c.replaceLease(errors.New(
		"etcd's revision went backwards: it was restored from a backup or wiped"))
	c.check.rest = nil

	for r := range c.records() {
		r.doubted = true

		if c.foreign(r) {
			r.putRev = min(r.putRev, 1) // another process keeps its key
			continue
		}

		r.observed = nil
		r.putRev = 0
	}
}

// overdue returns an error with the time of a lease's last renewal if etcd has
// not answered for overdueAfter, else nil.
func (c *Core) overdue(now time.Time, id clientv3.LeaseID) error {
	h := c.get(id)
	if h == nil {
		return nil
	}

	renewed := h.expires.Add(-h.life)
	why := errNoRenewal

	asked := renewed.Add(h.life / renewAfter)
	if since := c.health.since; !since.IsZero() && since.Before(asked) {
		asked = latest(renewed, since)
		why = c.health.err
	}

	if now.Before(asked.Add(overdueAfter)) {
		return nil
	}

	return fmt.Errorf("lease %x was last renewed at %s: %w", id,
		renewed.Format(time.RFC3339), why)
}

// Leftover returns an error that names the leases which remain in etcd after
// Close, nil if none remain.
func (c *Core) Leftover(cause error) error {
	if len(c.held) == 0 {
		return nil
	}

	if cause == nil {
		cause = errors.New("etcd denies it")
	}

	var leases []string

	life := time.Duration(0)
	for _, h := range c.held {
		leases = append(leases, fmt.Sprintf("lease %x", h.id))
		life = max(life, h.life)
	}

	return fmt.Errorf("not revoked, and left to expire within %v: %s: %w", life,
		strings.Join(leases, ", "), cause)
}
