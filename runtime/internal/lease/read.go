package lease

import (
	"fmt"
	"slices"
	"time"
)

// reads returns the keys to be read now, because the next write depends on them. A session that closes
// writes nothing: it revokes.
func (c *core) reads(now time.Time) []probe {
	var probes []probe
	if c.closing {
		return nil
	}
	for e, s := range c.busySlots() {
		due := s.readDue(now) || s.needsRead(now) && e.needsPut(now, s, c.lease) || e.want == present && s.conflictDue(now)
		if due && len(probes) < int(c.readSize) {
			probes = append(probes, probe{e: e, s: s})
		}
	}
	return probes
}

// checks returns the next keys of the check that is due or under way.
func (c *core) checks(now time.Time) []probe {
	if len(c.queue) == 0 && !now.Before(c.checkAt) {
		// Before the answer comes, so that a nudge in between counts.
		c.checkedAt = now
		c.scheduleCheck(now)
		c.startCheck(now)
	}
	var probes []probe
	for len(c.queue) > 0 && len(probes) < int(c.readSize) {
		p := c.queue[0]
		p.compare, p.rev = !p.s.unreadable, p.s.rev
		if len(probes) > 0 && p.compare != probes[0].compare {
			break
		}
		c.queue = c.queue[1:]
		if p.e == nil || p.e.want == present && p.s.has == self {
			probes = append(probes, p)
		}
	}
	return probes
}

// startCheck lines up the keys that are thought to be ours, and those that were deleted while their lease lives.
// A key that could not be read waits for its turn.
func (c *core) startCheck(now time.Time) {
	if h := c.get(c.lease); h != nil {
		for _, s := range h.tombstones {
			c.queue = append(c.queue, probe{s: s})
		}
	}
	for e, s := range c.slots() {
		if s.has == self && (!s.unreadable || !now.Before(s.readAt)) {
			c.queue = append(c.queue, probe{e: e, s: s})
		}
	}
}

// dropTombstone forgets that a key was deleted, because it is in use again. A check that is under way looks for it no more.
func (c *core) dropTombstone(key string) {
	for _, h := range c.held {
		h.tombstones = slices.DeleteFunc(h.tombstones, func(s *slot) bool { return s.key == key })
	}
	c.queue = slices.DeleteFunc(c.queue, func(p probe) bool { return p.e == nil && p.s.key == key })
}

// probed takes in what etcd has under keys. kvs is nil if all of them are as known.
func (c *core) probed(now time.Time, probes []probe, kvs []*keyValue, revision int64) {
	c.silent = time.Time{}
	if !c.unsettled() {
		c.succeeded()
	}
	c.readSize.grow(len(probes))
	c.atRevision(now, revision)
	for i, p := range probes {
		if kvs == nil {
			p.s.asKnown(now)
		} else {
			c.rouse(p.e)
			c.found(now, p.e, p.s, kvs[i])
		}
	}
	c.refresh(now)
}

// unsettled reports whether a write has failed whose outcome is not known. Each is followed by a read, whose success says
// nothing about the next write.
func (c *core) unsettled() bool {
	for _, s := range c.busySlots() {
		if s.pending != nil || len(s.ambiguous) > 0 {
			return true
		}
	}
	return false
}

// found takes in what etcd has under a key; nil: nothing. A deleted key, which has no entry, is to be absent: if it is
// back, etcd was restored, unless another process has it by now.
func (c *core) found(now time.Time, e *entry, s *slot, kv *keyValue) {
	if e == nil {
		if kv != nil && c.isOwn(kv.lease) {
			c.restored(now)
		} else if kv != nil {
			c.dropTombstone(s.key)
		}
		return
	}
	s.wasRead(now)
	if late := s.settle(kv); late != nil {
		c.replaceLease(now, late.lease, fmt.Errorf("key %q: a write that etcd did not answer may arrive late", s.key))
	}
	switch {
	case kv == nil:
		if s.has == self && e.want == present && !s.retired {
			c.suspect(now, s)
			s.deleted(now, s.lease)
			e.fail(fmt.Errorf("key %q was deleted", s.key))
		}
		s.setAbsent()
	case kv.rev < s.ownRev, c.isOwn(kv.lease) && c.get(kv.lease) == nil: // an earlier state, or on a lease that was gone
		c.restored(now)
	case c.isOwn(kv.lease):
		if s.has == self && s.rev != kv.rev && kv.value != s.value {
			s.disturbed(now)
			e.fail(fmt.Errorf("key %q was overwritten", s.key))
		}
		c.dropTombstone(s.key)
		s.setOwn(kv)
	default:
		if err := s.found(now, kv); err != nil {
			e.fail(err)
		}
	}
}

// maxWatches is the greatest number of keys that a session watches, so that a process with a hundred services does not
// have a hundred watches. With more keys it hears by those that it watches when the lease goes, and checks all often.
const maxWatches = 4

// toWatch returns the keys of which it is to be heard at once when others change them.
func (c *core) toWatch() []string { return c.registered(maxWatches) }

// registered returns so many of the keys that have been in etcd, and are to be, at most.
func (c *core) registered(most int) []string {
	var keys []string
	for e, s := range c.slots() {
		if len(keys) == most || c.closing {
			break
		}
		if e.wasRegistered && e.want == present && !s.retired {
			keys = append(keys, s.key)
		}
	}
	return keys
}

// onUpdate takes in what a watch tells of a key, as it was at a revision. kv is nil if there is nothing.
func (c *core) onUpdate(now time.Time, key string, kv *keyValue, revision int64) {
	for e, s := range c.slots() {
		if s.key != key || e.want != present {
			continue
		}
		if kv == nil && revision >= s.ownRev {
			c.suspect(now, s)
		}
		asWanted := kv != nil && c.isOwn(kv.lease) && kv.value == s.value
		if kv == nil || s.has != other && !asWanted {
			c.nudge(now)
		}
	}
}

// probeFailed takes in that keys could not be read.
func (c *core) probeFailed(now time.Time, probes []probe, err error) {
	switch {
	case !isRefusal(err):
		c.requeue(probes)
		c.failed(now, fmt.Errorf("read %q: %w", probes[0].s.key, err))
	case len(probes) > 1:
		c.succeeded()
		c.readSize.shrink(len(probes))
		c.requeue(probes)
	default:
		c.readDenied(now, probes[0], err)
		c.readSize.grow(1)
	}
	c.refresh(now)
}

// requeue puts the probes of a check back. Reads come again by themselves.
func (c *core) requeue(probes []probe) {
	for _, p := range probes {
		if p.compare {
			c.queue = append(c.queue, probe{e: p.e, s: p.s})
		}
	}
}

// readDenied takes in that etcd does not let us read a key, or that its value is too large for an answer.
func (c *core) readDenied(now time.Time, p probe, err error) {
	c.succeeded()
	if p.e == nil {
		c.dropTombstone(p.s.key)
		c.replaceLease(now, c.lease, fmt.Errorf("key %q: cannot be read, and whether it stays deleted not seen", p.s.key))
		return
	}
	c.rouse(p.e)
	p.s.readDenied(now, err, c.jitter)
	c.abandon(now, p.s)
}

// abandon gives up finding out what became of a pending write, because the key cannot be read.
func (c *core) abandon(now time.Time, s *slot) {
	if w := s.pending; w != nil {
		s.answered()
		c.replaceLease(now, w.lease, errUnsettled(s.key))
	}
}

func errUnsettled(key string) error {
	return fmt.Errorf("key %q: etcd did not answer a write, and the key cannot be read", key)
}
