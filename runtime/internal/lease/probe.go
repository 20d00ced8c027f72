package lease

import (
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// probe is a key to be read, or to be compared with what is known of it. All probes of one call do the
// same.
type probe struct {
	e       *entry // nil: the key was deleted, and must be absent
	s       *slot
	compare bool
	rev     int64 // the mod revision to compare with; 0: absent
}

// cmp returns the comparison that holds if the key is as known.
func (p *probe) cmp() clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(p.s.key), "=", p.rev)
}

// reads returns the keys to be read now, because the next write depends on them. A session that closes
// writes nothing: it revokes.
func (c *core) reads(now time.Time) []probe {
	var probes []probe
	if c.closing {
		return nil
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			due := s.readDue(now) || s.needsRead(now) && c.needsPut(now, e, s) || e.want == present && s.conflictDue(now)
			if due && len(probes) < int(c.readSize) {
				probes = append(probes, probe{e: e, s: s})
			}
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
		c.fill(now)
	}
	var probes []probe
	for len(c.queue) > 0 && len(probes) < int(c.readSize) {
		p := c.queue[0]
		p.compare, p.rev = !p.s.blind, p.s.rev
		if len(probes) > 0 && p.compare != probes[0].compare {
			break
		}
		c.queue = c.queue[1:]
		if p.e == nil || p.e.want == present && p.s.has == ours {
			probes = append(probes, p)
		}
	}
	return probes
}

// fill lines up the keys that are thought to be ours, and those that were deleted while their lease lives.
// A key that could not be read waits for its turn.
func (c *core) fill(now time.Time) {
	if h := c.held(c.lease); h != nil {
		for _, s := range h.tombstones {
			c.queue = append(c.queue, probe{s: s})
		}
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.has == ours && (!s.blind || !now.Before(s.readAt)) {
				c.queue = append(c.queue, probe{e: e, s: s})
			}
		}
	}
}

// probed takes in what etcd has under keys. kvs is nil if all of them are as known.
func (c *core) probed(now time.Time, probes []probe, kvs []*keyValue, revision int64) {
	if !c.unsettled() {
		c.succeeded()
	}
	c.readSize.grow(len(probes))
	c.atRevision(now, revision)
	for i, p := range probes {
		switch {
		case kvs == nil:
			p.s.lastRead = now
		case p.e == nil:
			c.checkTombstone(now, p.s, kvs[i])
		default:
			c.found(now, p.e, p.s, kvs[i])
		}
	}
	c.refresh(now)
}

// unsettled reports whether a write has failed whose outcome is not known. Each is followed by a read, whose success says
// nothing about the next write.
func (c *core) unsettled() bool {
	return slices.ContainsFunc(c.entries, func(e *entry) bool {
		return slices.ContainsFunc(e.slots, func(s *slot) bool { return s.pending != nil || len(s.ambiguous) > 0 })
	})
}

// unreadable takes in that etcd does not let us read a key, or that its value is too large for an answer.
func (c *core) unreadable(now time.Time, p probe) {
	c.succeeded()
	if p.e == nil {
		c.dropTombstone(p.s.key)
		c.replaceLease(now, c.lease, fmt.Errorf("key %q: cannot be read, and whether it stays deleted not seen", p.s.key))
		return
	}
	s := p.s
	s.readAccess.unreadable(now, c.jitter)
	if st := s.pending; st != nil {
		s.pending = nil
		c.replaceLease(now, st.lease, errUnsettled(s.key))
	}
}
