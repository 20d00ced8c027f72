package lease

import (
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The etcd client renews a lease each third of its TTL, on one stream to one member. When half of the
// TTL has passed without an answer, or there is a doubt whether it still stands, the lease is renewed out of
// turn, on another connection if there is one, until an answer comes. The attempts are renewSpacing of a TTL
// apart, within these limits.
const (
	renewSpacing    = 16
	renewSpacingMin = 100 * time.Millisecond
	renewSpacingMax = time.Second
)

// inUse returns the leases to be renewed: the current one, and retired ones with keys that have yet to move.
func (c *core) inUse(now time.Time) []clientv3.LeaseID {
	var ids []clientv3.LeaseID
	for _, h := range c.leases {
		if h.id == c.lease || c.alive(now, h.id) && c.holdsWanted(h.id) {
			ids = append(ids, h.id)
		}
	}
	return ids
}

// renewed takes in that etcd renewed a lease for a time. An earlier revision than one that is known has the
// keys checked: the member may lag behind, or etcd was restored.
func (c *core) renewed(now time.Time, id clientv3.LeaseID, life time.Duration, revision int64) {
	if h := c.held(id); h != nil {
		h.expires = now.Add(life)
	}
	if revision != 0 && revision < c.revision {
		c.nudge(now)
	}
}

// renewal reports whether a lease is to be renewed out of turn now, and when to ask again.
func (c *core) renewal(now time.Time, id clientv3.LeaseID) (due bool, wait time.Duration) {
	h := c.held(id)
	if h == nil {
		return false, tick
	}
	at := h.expires.Add(-h.life / 2)
	if proof := h.proven.Add(h.life / provesIn); c.elects() && proof.Before(at) {
		at = proof
	}
	if !h.doubted.IsZero() {
		at = now
	}
	if at = later(at, h.renewAt); now.Before(at) {
		return false, at.Sub(now)
	}
	wait = min(max(h.life/renewSpacing, renewSpacingMin), renewSpacingMax)
	h.renewAt = now.Add(wait)
	return true, wait
}

// doubt takes in that a key has gone from etcd. Its lease may have gone, too. The put would tell, but if that is to wait,
// the lease is renewed at once. There is one doubt for each put of a key, so that who deletes keys again and again causes
// no more renewals than writes.
func (c *core) doubt(now time.Time, s *slot) {
	if h := c.held(s.lease); h != nil && s.has == ours && s.pending == nil && !s.doubted && s.paused(now) {
		s.doubted, h.doubted = true, now
	}
}

// doubts reports whether a renewal is to tell if a lease still stands.
func (c *core) doubts(id clientv3.LeaseID) bool {
	h := c.held(id)
	return h != nil && !h.doubted.IsZero()
}

// trust takes in that etcd renewed a lease on a request that was sent at a time. A doubt that has arisen since stays.
func (c *core) trust(sent time.Time, id clientv3.LeaseID) {
	if h := c.held(id); h != nil && !sent.Before(h.doubted) {
		h.doubted = time.Time{}
	}
}

// keepAliveEnded replaces a lease. It need not be dead: the client may have given up for reasons of its own. If
// it does so again and again there is time, for the lease is renewed out of turn.
func (c *core) keepAliveEnded(now time.Time, id clientv3.LeaseID, err error) {
	hasty := c.hasty
	c.replaceLease(now, id, err)
	if hasty && c.hasty && id == c.lease {
		c.grantAt = later(c.grantAt, now.Add(c.jitter(c.endings.Bound())))
	}
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
