package lease

import (
	"fmt"
	"slices"
	"time"
)

const (
	// maxBytes bounds a transaction. etcd takes 1.5 MiB.
	maxBytes = 1 << 20
	// leaseFaultEvery is the least time between two leases that are replaced because etcd denied a put.
	leaseFaultEvery = 10 * time.Second
	// maxTombstones is how many deleted keys are remembered for a lease.
	maxTombstones = 100
)

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
// by itself.
func (c *core) collect(now time.Time, next func(time.Time, *entry, *slot) *step) []step {
	var steps []step
	bytes := 0
	for e, s := range c.busySlots() {
		if now.Before(s.retryAt) || s.refused != nil && len(steps) > 0 {
			continue
		}
		st := next(now, e, s)
		if st == nil || !joins(st, steps) {
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
	return steps
}

// joins reports whether a step may be in one transaction with others.
func joins(st *step, steps []step) bool {
	return len(steps) == 0 || st.lease == steps[0].lease && (st.kind == putBlind) == (steps[0].kind == putBlind)
}

// send notes that the outcome of steps is not known.
func (c *core) send(steps []step) op {
	for _, st := range steps {
		st.s.send(st.write)
	}
	return writeOp{steps}
}

// farewell returns the value to put under a key before it is deleted; "": none. For an entry that is paused, and whose layout has
// no room for a mark, that is its present value: if etcd refuses that put for want of space, it could not take the entry back.
func (c *core) farewell(now time.Time, e *entry, s *slot) string {
	if e.want == present || s.marked || s.retired || s.unreadable || s.pending != nil || !c.alive(now, s.lease) {
		return ""
	}
	if e.want == paused && s.leaving == "" && s.has == self {
		return s.written
	}
	return s.leaving
}

// lingers reports whether a paused entry is still in etcd because its farewell was not put yet.
func (c *core) lingers(now time.Time, e *entry) bool {
	return e.want == paused && slices.ContainsFunc(e.slots, func(s *slot) bool { return s.has == self && c.farewell(now, e, s) != "" })
}

// markStep returns the mark of a key that is to go, nil if it needs none now.
func (c *core) markStep(now time.Time, e *entry, s *slot) *step {
	value := c.farewell(now, e, s)
	if value == "" || e.want == paused && now.Before(c.putsAt) {
		return nil
	}
	return &step{e, s, write{mark, value, s.lease, s.rev}}
}

// removeStep returns the deletion of a key that is to go, nil if it needs none now.
func (c *core) removeStep(now time.Time, e *entry, s *slot) *step {
	if s.pending != nil || e.want == paused && c.farewell(now, e, s) != "" || !leaves(e) || s.has != self {
		return nil
	}
	if h := c.get(s.lease); h == nil || !h.denied && !c.wanted(now) {
		return nil
	}
	return &step{e, s, write{remove, "", s.lease, 0}}
}

// leaves reports whether the keys of an entry are not to stay in etcd.
func leaves(e *entry) bool {
	return e.want != present || e.conflicted()
}

// putStep returns the put of a key, nil if it needs none now or must be read before.
func (c *core) putStep(now time.Time, e *entry, s *slot) *step {
	if !e.needsPut(now, s, c.lease) || s.needsRead(now) {
		return nil
	}
	if s.unreadable {
		return &step{e, s, write{putBlind, s.value, c.lease, 0}}
	}
	return &step{e, s, write{put, s.value, c.lease, s.rev}}
}

// wrote takes in the answer to a transaction: either its steps are made, or kvs has the keys as they are.
func (c *core) wrote(now time.Time, steps []step, made bool, kvs []*keyValue, revision int64) {
	c.succeeded()
	c.writeSize.grow(len(steps))
	c.atRevision(now, revision)
	for i, st := range steps {
		st.s.answered()
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
	for _, st := range steps {
		if c.isOwn(st.lease) && c.get(st.lease) == nil {
			st.s.leaseGone(now, st.lease)
		}
	}
}

// stepDone takes in that a step is made.
func (c *core) stepDone(now time.Time, st step, revision int64) {
	st.s.done(now, st.write, revision)
	switch st.kind {
	case mark:
		st.e.accepted()
		c.full.Reset()
	case remove:
		c.addTombstone(st.s.key, st.lease)
	default:
		c.dropTombstone(st.s.key)
		st.e.accepted()
		c.full.Reset()
	}
}

// writeFailed takes in that a transaction failed or was not answered.
func (c *core) writeFailed(now time.Time, steps []step, err error) {
	for _, st := range steps {
		st.s.answered()
	}
	switch {
	case isLeaseNotFound(err):
		c.lost(now, steps[0].lease, fmt.Errorf("lease %x expired or was revoked", int64(steps[0].lease)))
	case isFull(err):
		c.etcdFull(now, steps, err)
	case isBusy(err):
		c.failed(now, fmt.Errorf("%s %q: %w", steps[0].kind, steps[0].s.key, err))
	case !isRefusal(err):
		c.unanswered(now, steps)
		c.failed(now, fmt.Errorf("%s %q: %w", steps[0].kind, steps[0].s.key, err))
	case len(steps) > 1: // one key's fault must not be the others'
		c.succeeded()
		c.writeSize.shrink(len(steps))
		if mayHaveArrived(err) {
			c.unanswered(now, steps)
		}
	default:
		c.succeeded()
		c.refusedStep(now, steps[0], err)
	}
	c.wentMeanwhile(now, steps)
	c.refresh(now)
}

// unanswered takes in that steps may have arrived, or may yet arrive. Where a mark is among them, etcd is slow: all keys
// that are to go are removed without one.
func (c *core) unanswered(now time.Time, steps []step) {
	for _, st := range steps {
		st.s.unanswered(st.write)
		if st.kind == mark {
			c.skipMarks()
		} else if st.s.unreadable {
			c.abandon(now, st.s)
		}
	}
}

func (c *core) skipMarks() {
	for e, s := range c.busySlots() {
		if e.want != present {
			s.skipMark()
		}
	}
}

// refusedStep takes in that etcd refused the write of one key.
func (c *core) refusedStep(now time.Time, st step, err error) {
	s := st.s
	err = fmt.Errorf("key %q: %w", s.key, err)
	switch {
	case st.kind == mark:
		s.skipMark()
	case st.kind != remove && st.value != s.value: // not a refusal of the present value
	case !isDenied(err):
		c.refuse(now, st, err)
	case st.kind == put && s.readTells(now):
		// The guard needs the right to read, too. A read tells which of the two is missing.
	case st.kind == remove:
		c.removalDenied(now, st, err)
	case c.leaseAtFault(now, st, err):
	default:
		c.refuse(now, st, err)
	}
}

// refuse takes in that etcd refuses the write of a key for the key's sake.
func (c *core) refuse(now time.Time, st step, err error) {
	c.writeSize.grow(1)
	st.s.refuse(now, err, c.jitter)
	st.e.refuse(err)
	c.complain(now, err, wasRefused)
}

// leaseAtFault replaces the lease because of one denied put: another user's key may hang on it, and etcd then
// denies our puts. It reports false if that was tried lately, so that the key is at fault.
func (c *core) leaseAtFault(now time.Time, st step, err error) bool {
	if !st.s.leaseAtFault(now) || now.Before(c.faultAt) || st.lease != c.lease {
		return false
	}
	c.faultAt = now.Add(leaseFaultEvery)
	c.replaceLease(now, st.lease, err)
	return true
}

// removalDenied replaces the lease, whose end removes the key. Revoking it takes no right to read.
func (c *core) removalDenied(now time.Time, st step, err error) {
	h := c.get(st.lease)
	if h != nil && !h.denied && st.s.refused == nil {
		c.replaceLease(now, st.lease, err)
		st.s.wait(now, refusedMin)
		return
	}
	c.refuse(now, st, err)
}

// etcdFull handles that etcd has no space left. It then refuses puts and accepts deletions, so paused entries stay.
func (c *core) etcdFull(now time.Time, steps []step, err error) {
	c.succeeded()
	c.putsAt = now.Add(c.jitter(c.full.Bound()))
	var stay []*entry
	for _, st := range steps {
		switch {
		case st.kind != mark:
			st.e.refuse(fmt.Errorf("put %q: %w", st.s.key, err))
		case st.e.want == paused:
			if st.e.refused == nil {
				stay = append(stay, st.e)
			}
			st.e.refuse(fmt.Errorf("%q is to be out of etcd, and stays, for etcd has no space to take it back: %w", st.s.key, err))
		default:
			st.s.skipMark()
		}
	}
	if len(stay) > 0 {
		c.complaints = append(c.complaints, complaint{stay[0].key(), len(stay) - 1, stay[0].err})
	}
	c.complain(now, err, wasRefused)
}
