package lease

import (
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// overdueAfter is how long etcd may fail to answer a renewal, or any other call, before the status of entries reports it.
const overdueAfter = 10 * time.Second

var errNoRenewal = errors.New("etcd has not answered a renewal since")

// granted takes in the lease that the entries are to hang on from now on.
func (c *core) granted(now time.Time, id clientv3.LeaseID, life time.Duration) {
	c.succeeded()
	c.hold(now, id, life)
	c.scheduleCheck(now)
	c.rouseAll()
	for _, e := range c.entries {
		e.rekey(id)
	}
}

// grantFailed takes in that no lease was granted. etcd is asked again even after a refusal, for someone may
// grant the permission.
func (c *core) grantFailed(now time.Time, err error) {
	err = fmt.Errorf("grant a lease: %w", err)
	if !isRefusal(err) {
		c.failed(now, err)
		return
	}
	c.succeeded()
	c.spaceGrants(now)
	for _, e := range c.busy {
		if e.want == present && e.state != Registered {
			e.refuse(err)
		}
	}
	c.complain(now, err, unregistered)
	c.refresh(now)
}

// inUse returns the leases to be renewed: the current one, and retired ones with keys that have yet to move.
func (c *core) inUse(now time.Time) []clientv3.LeaseID {
	var ids []clientv3.LeaseID
	for _, h := range c.held {
		if h.id == c.lease || c.alive(now, h.id) && c.holdsWanted(h.id) {
			ids = append(ids, h.id)
		}
	}
	return ids
}

// revocable returns a retired lease that no wanted key hangs on any more, nil if there is none. A key that
// cannot be moved keeps its lease until that expires.
func (c *core) revocable(now time.Time) *heldLease {
	for _, h := range c.held {
		if h.id != c.lease && !now.Before(h.retryAt) && (!c.alive(now, h.id) || !c.holdsWanted(h.id)) {
			return h
		}
	}
	return nil
}

// holdsWanted reports whether a wanted key hangs on a lease and has yet to move to the current one.
func (c *core) holdsWanted(id clientv3.LeaseID) bool {
	return slices.ContainsFunc(c.busy, func(e *entry) bool { return e.holds(id, c.lease) })
}

// renewed takes in that etcd renewed a lease for a time. An earlier revision than one that is known has the
// keys checked: the member may lag behind, or etcd was restored.
func (c *core) renewed(now time.Time, id clientv3.LeaseID, life time.Duration, revision int64) {
	c.leases.renewed(now, id, life)
	if revision != 0 && revision < c.revision {
		c.nudge(now)
	}
}

// overdue returns an error with the time of a lease's last renewal if etcd has not answered for overdueAfter, else nil.
func (c *core) overdue(now time.Time, id clientv3.LeaseID) error {
	h := c.get(id)
	if h == nil {
		return nil
	}
	renewed, why := h.expires.Add(-h.life), errNoRenewal
	asked := renewed.Add(h.life / 2)
	if !c.silent.IsZero() && c.silent.Before(asked) {
		asked, why = latest(renewed, c.silent), c.silence
	}
	if now.Before(asked.Add(overdueAfter)) {
		return nil
	}
	return fmt.Errorf("lease %x was last renewed at %s: %w", int64(id), renewed.Format(time.RFC3339), why)
}

func (c *core) keepAliveEnded(now time.Time, id clientv3.LeaseID, err error) {
	c.replaceEnded(now, id, err)
	c.refresh(now)
}

// renewalFailed takes in that etcd did not renew a lease. One that it does not know is lost. One that it refuses
// to renew is replaced: another user's key may hang on it, which we may not write.
func (c *core) renewalFailed(now time.Time, id clientv3.LeaseID, err error) {
	err = fmt.Errorf("renew lease %x: %w", int64(id), err)
	switch {
	case isLeaseNotFound(err):
		c.lost(now, id, err)
	case isRefusal(err):
		c.replaceLease(now, id, err)
	}
}

// lost takes in that a lease does not exist any more, so that no write on it can arrive any more. err is nil
// if this session revoked it.
func (c *core) lost(now time.Time, id clientv3.LeaseID, err error) {
	c.succeeded()
	if c.drop(now, id, err) {
		c.rouseAll()
		c.setCause(err)
	}
	for e, s := range c.busySlots() {
		if e.want != present && err != nil && s.on(id) {
			s.mayBeBack() // an etcd that does not know the lease may know those before
		}
		s.leaseGone(now, id)
	}
	c.refresh(now)
}

// revoked takes in that a retired lease is revoked.
func (c *core) revoked(now time.Time, id clientv3.LeaseID, revision int64) {
	c.atRevision(now, revision)
	c.lost(now, id, nil)
}

// revokeFailed takes in that a lease was not revoked.
func (c *core) revokeFailed(now time.Time, id clientv3.LeaseID, err error) {
	switch {
	case isLeaseNotFound(err):
		c.lost(now, id, err)
	case isRefusal(err):
		c.succeeded()
		c.revokeDenied(now, id)
		c.refresh(now)
	default:
		c.failed(now, fmt.Errorf("revoke lease %x: %w", int64(id), err))
	}
}

// atRevision takes in the revision of an answer of etcd's. One that is lower than an earlier answer's shows
// that etcd was restored from a backup or replaced. 0 stands for none: an answer may lack it after a wrapper
// of the caller's.
func (c *core) atRevision(now time.Time, revision int64) {
	if revision == 0 {
		return
	}
	restored := revision < c.revision
	c.revision = revision
	if restored {
		c.restored(now)
	}
}

// restored takes in that etcd is back at an earlier state. It may have keys of ours as they were long ago,
// on leases that are retired. All leases are given up, and take their keys along.
func (c *core) restored(now time.Time) {
	c.presumeAlive(now, 0)
	c.replaceLease(now, c.lease, errors.New("etcd was restored to an earlier state"))
	c.queue = nil
	c.rouseAll()
	for _, s := range c.busySlots() {
		s.forget()
	}
}

// reconnected takes in that the connection to etcd is back. It may lead to another etcd, or to a restored one.
func (c *core) reconnected(now time.Time) {
	c.nudge(now)
	if c.lease == 0 {
		c.presumeAlive(now, 0)
	}
}
