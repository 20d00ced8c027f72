package lease

import (
	"errors"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

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
	for _, e := range c.entries {
		for _, s := range e.slots {
			s.forget()
		}
	}
}

// presumeAlive has earlier leases revoked again, except one that is known to be gone: a restored etcd may
// have them.
func (c *core) presumeAlive(now time.Time, except clientv3.LeaseID) {
	for _, id := range c.everGranted[max(0, len(c.everGranted)-maxPresumed):] {
		if id != except && c.held(id) == nil {
			c.leases = append(c.leases, &heldLease{id: id, granted: now, life: c.ttl, expires: now.Add(c.ttl), presumed: true})
		}
	}
}

// addTombstone remembers a key that was deleted while its lease lives. If the key is back, etcd was
// restored.
func (c *core) addTombstone(now time.Time, s *slot, id clientv3.LeaseID) {
	h := c.held(id)
	if h == nil {
		return
	}
	h.tombstones = append(h.tombstones, &slot{key: s.key, stored: stored{has: absent}})
	if len(h.tombstones) >= max(minTombstones, len(c.entries)) {
		c.replaceLease(now, id, errors.New("many keys have come and gone on it"))
	}
}

// dropTombstone forgets that a key was deleted, because it is in use again.
func (c *core) dropTombstone(key string) {
	for _, h := range c.leases {
		h.tombstones = slices.DeleteFunc(h.tombstones, func(s *slot) bool { return s.key == key })
	}
}

// checkTombstone takes in what etcd has under a key that was deleted; nil: nothing.
func (c *core) checkTombstone(now time.Time, s *slot, kv *keyValue) {
	switch {
	case kv == nil:
	case c.isOwn(kv.lease):
		c.restored(now)
	default: // another process has the key by now
		c.dropTombstone(s.key)
	}
}
