package lease

import (
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// MaxOps and maxBytes bound a transaction. etcd takes 128 operations and 1.5 MiB.
	MaxOps   = 100
	maxBytes = 1 << 20
)

// step is a write to one key. A transaction makes all of its steps or, if a guard does not hold, none; it
// returns the keys then.
type step struct {
	e     *entry
	s     *slot
	kind  kind
	value string           // the put's
	lease clientv3.LeaseID // the put's, or the one that a removal is guarded by
	rev   int64            // the mod revision that a guarded put or a mark expects
}

type kind int

const (
	put      kind = iota // if the key is as known
	putBlind             // whatever the key is, because etcd does not let us read it
	mark                 // put the value that says that the key is about to go, if the key is as known
	remove               // if the key still hangs on the lease
)

// String names the kind for errors.
func (k kind) String() string { return [...]string{"put", "put", "mark", "delete"}[k] }

// guard returns the condition of the step. A blind put has none.
func (st *step) guard() clientv3.Cmp {
	if st.kind == remove {
		return clientv3.Compare(clientv3.LeaseValue(st.s.key), "=", st.lease)
	}
	return clientv3.Compare(clientv3.ModRevision(st.s.key), "=", st.rev)
}

// op returns the write.
func (st *step) op() clientv3.Op {
	if st.kind == remove {
		return clientv3.OpDelete(st.s.key)
	}
	return clientv3.OpPut(st.s.key, st.value, clientv3.WithLease(st.lease))
}

// arrived reports whether the step was made, given what is under its key now. It may arrive later if not.
func (st *step) arrived(kv *keyValue) bool {
	if st.kind == remove {
		return kv == nil || kv.lease != st.lease
	}
	return kv != nil && kv.lease == st.lease && kv.value == st.value && kv.rev > st.rev
}

// joins reports whether a step may be in one transaction with others.
func (c *core) joins(now time.Time, st *step, steps []step) bool {
	if len(steps) > 0 && (st.lease != steps[0].lease || (st.kind == putBlind) != (steps[0].kind == putBlind)) {
		return false
	}
	return st.s.elect == nil || st.kind == remove || c.electable(now, st, steps)
}

// removals returns the next transaction on the way out of etcd: first marks, then deletions. Keys on a lease
// that is about to be revoked need no deletion.
func (c *core) removals(now time.Time) []step {
	if steps := c.collect(now, c.markStep); len(steps) > 0 {
		return steps
	}
	return c.collect(now, c.removeStep)
}

// puts returns the next transaction of puts.
func (c *core) puts(now time.Time) []step {
	if c.lease == 0 || now.Before(c.putsAt) {
		return nil
	}
	return c.collect(now, c.putStep)
}

// collect returns the steps of one transaction, given the step of each key. A key that was refused is tried
// by itself. What may not be put yet takes no place: others would wait as long.
func (c *core) collect(now time.Time, next func(time.Time, *entry, *slot) *step) []step {
	var steps []step
	bytes := 0
	for _, e := range c.entries {
		for _, s := range e.slots {
			if now.Before(s.retryAt) || s.refused != nil && len(steps) > 0 {
				continue
			}
			st := next(now, e, s)
			if st == nil || !c.joins(now, st, steps) {
				continue
			}
			bytes += 3*len(s.key) + len(st.value) + 64 // the key is in the guard, the write and the read
			if len(steps) > 0 && bytes > maxBytes {
				return steps
			}
			steps = append(steps, *st)
			if len(steps) >= int(c.writeSize) || s.refused != nil {
				return steps
			}
		}
	}
	return steps
}

// send notes that the outcome of steps is not known.
func (c *core) send(steps []step) op {
	for i := range steps {
		steps[i].s.pending = &steps[i]
	}
	return writeOp{steps}
}

// markStep returns the mark of a key that is to go, nil if it needs none now.
func (c *core) markStep(now time.Time, e *entry, s *slot) *step {
	if e.want == present || !s.markable() || !c.alive(now, s.lease) {
		return nil
	}
	return &step{e, s, mark, s.leaving, s.lease, s.rev}
}

// removeStep returns the deletion of a key that is to go, nil if it needs none now.
func (c *core) removeStep(now time.Time, e *entry, s *slot) *step {
	if e.want == present && !e.conflicted() && !c.barred(now, e, s) || s.has != ours || s.pending != nil {
		return nil
	}
	h := c.held(s.lease)
	if h == nil || !h.denied && !c.wanted() {
		return nil
	}
	return &step{e, s, remove, "", s.lease, 0}
}

// putStep returns the put of a key, nil if it needs none now or must be read before.
func (c *core) putStep(now time.Time, e *entry, s *slot) *step {
	if !c.needsPut(now, e, s) || s.needsRead(now) {
		return nil
	}
	if s.blind {
		return &step{e, s, putBlind, s.value, c.lease, 0}
	}
	return &step{e, s, put, s.value, c.lease, s.rev}
}

// needsPut reports whether a wanted key is to be put now. An entry that has lost a key to another process puts
// none, and gives up the others, until that one is free: a process has all keys of an instance or none.
func (c *core) needsPut(now time.Time, e *entry, s *slot) bool {
	return e.want == present && !e.conflicted() && !s.retired && !now.Before(s.notBefore) && !(s.on(c.lease) && s.asWanted())
}

// wrote takes in the answer to a transaction: either its steps are made, or kvs has the keys as they are.
func (c *core) wrote(now time.Time, steps []step, made bool, kvs []*keyValue, revision int64) {
	c.succeeded()
	c.writeSize.grow(len(steps))
	c.atRevision(now, revision)
	for i := range steps {
		st := &steps[i]
		st.s.pending = nil
		if made {
			c.stepDone(now, st, revision)
		} else {
			c.found(now, st.e, st.s, kvs[i])
		}
	}
	c.wentMeanwhile(now, steps)
	c.refresh(now)
}

// wentMeanwhile takes in that the lease of steps may have gone while they were under way, as a renewal tells: what
// they put is gone with it, and none of them arrives any more.
func (c *core) wentMeanwhile(now time.Time, steps []step) {
	for i := range steps {
		if st := &steps[i]; c.held(st.lease) == nil {
			st.s.leaseGone(now, st.lease)
		}
	}
}

// stepDone takes in that a step is made.
func (c *core) stepDone(now time.Time, st *step, revision int64) {
	s := st.s
	switch st.kind {
	case mark:
		s.marked, s.written, s.rev, s.ourRev = true, st.value, revision, revision
	case remove:
		s.refused = nil
		s.readable(now) // the answer tells what a read would
		s.setAbsent()
		c.addTombstone(now, s, st.lease)
	default:
		c.putDone(now, st, revision)
	}
}

// putDone takes in that a key was put.
func (c *core) putDone(now time.Time, st *step, revision int64) {
	s := st.s
	s.stored = stored{ours, st.lease, st.value, revision, createdBy(st, revision)}
	if s.elect != nil && s.created == 0 {
		s.readFrom(now)
	}
	s.ourRev, s.yielded = revision, false
	s.put(now)
	s.accepted()
	c.dropTombstone(s.key)
	if !slices.ContainsFunc(st.e.slots, func(s *slot) bool { return s.refused != nil }) {
		st.e.refused = nil
	}
	c.full.Reset()
}
