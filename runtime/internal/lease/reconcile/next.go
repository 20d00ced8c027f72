package reconcile

import (
	"iter"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// maxOps is the maximum number of keys in one transaction. etcd accepts 128.
	maxOps = 100

	// maxBytes bounds a transaction. etcd accepts 1.5 MiB.
	maxBytes = 1 << 20

	// A wait that has taken longer than sleepGap shows that the machine slept:
	// Next never asks for a wait longer than a tick.
	sleepGap = 4 * tick

	// callTimeout bounds a call, because the next try may reach another member.
	// The time that etcd took for its last answer is added. After two calls
	// without an answer the sum is doubled, and again after each further one.
	// It is not doubled for removals: callers wait for them. A write that times
	// out has an unknown outcome. The next write of the key, with the same
	// guard, settles it.
	callTimeout = 2 * time.Second

	// markTimeout bounds how long the mark of leaving delays the deletion of a
	// key.
	markTimeout = 500 * time.Millisecond

	// MaxTimeout bounds the timeout of a call, and the wait for a grant that
	// has timed out.
	MaxTimeout = 80 * time.Second

	// shortTime is how long a call may take, in addition to the time of etcd's
	// last answer, when a removal waits for it.
	shortTime = 500 * time.Millisecond
)

// ErrGaveWay is the error of a call that ended without an answer because a
// removal waited for it.
var ErrGaveWay = status.Error(codes.Canceled,
	"the call was canceled: a removal did not wait for its answer")

// Op is a call to etcd that the core requests: a GrantOp, RevokeOp or
// AttachedOp, or a transaction, which [Transaction] returns.
type Op any

type (
	// GrantOp requests a lease.
	GrantOp struct{}

	// RevokeOp revokes a lease.
	RevokeOp struct{ Lease clientv3.LeaseID }

	// AttachedOp reads the keys on a lease.
	AttachedOp struct{ Lease clientv3.LeaseID }

	// writeOp writes keys.
	writeOp struct{ steps []step }

	// readOp reads keys.
	readOp struct {
		steps   []step // of each step, only the key and the observed revision are used
		compare bool   // etcd returns values only if some key is not as observed
	}
)

// step is a write of a key, or a read. A transaction makes all of its steps. If
// a guard fails, it makes none, and returns the values of the keys.
type step struct {
	r *record
	write
}

// Transaction returns the transaction of a read or write: its guards, the
// operations if all guards hold, and those otherwise.
func Transaction(o Op) (guards []clientv3.Cmp, then, otherwise []clientv3.Op) {
	read, _ := o.(readOp)
	write, _ := o.(writeOp)
	for _, st := range append(read.steps, write.steps...) {
		guards = append(guards,
			clientv3.Compare(clientv3.ModRevision(st.r.key), "=", st.rev))
		otherwise = append(otherwise, clientv3.OpGet(st.r.key))
	}

	for _, st := range write.steps {
		if st.kind == remove {
			then = append(then, clientv3.OpDelete(st.r.key))
			continue
		}

		then = append(then,
			clientv3.OpPut(st.r.key, st.value, clientv3.WithLease(st.lease)))
	}

	if write.steps == nil && !read.compare {
		return nil, otherwise, nil
	}

	return guards, then, otherwise
}

// wait collects the times until which calls are delayed. at is the earliest of
// them, zero if there is none.
type wait struct{ now, at time.Time }

// waitsFor reports whether at is in the future. If it is, the wait ends then or
// earlier.
func (w *wait) waitsFor(at time.Time) bool {
	if !w.now.Before(at) {
		return false
	}

	if w.at.IsZero() || at.Before(w.at) {
		w.at = at
	}

	return true
}

// Next returns the call to make now with its timeout, or nil and how long to
// wait before asking again.
func (c *Core) Next(now time.Time) (Op, time.Duration) {
	c.hurry = false

	if c.lease != 0 && !c.leaseNeeded(paused) {
		c.lease = 0
		c.grants.open() // the lease was not lost
	}

	if err := c.overdue(now, c.lease); err != nil {
		c.warn(now, err, func(e *Entry) bool { return e.state == Registered })
	}

	c.refresh(now)
	c.continueCheck(now)

	w := &wait{now: now}
	if !w.waitsFor(c.calls.at) {
		if o := c.due(w); o != nil {
			c.begin(now, o)
			return o, c.timeoutOf(now, o)
		}
	}

	if w.at.IsZero() {
		return nil, tick
	}

	return nil, min(max(w.at.Sub(now), time.Millisecond), tick)
}

// Removes reports whether a call removes keys from etcd, or finds out whether
// they are out.
func Removes(o Op) bool {
	switch o := o.(type) {
	case RevokeOp:
		return true
	case readOp:
		return !o.compare
	case writeOp:
		return o.steps[0].kind != put
	}

	return false
}

// timeoutOf returns the timeout of a call.
func (c *Core) timeoutOf(now time.Time, o Op) time.Duration {
	switch o := o.(type) {
	case RevokeOp:
		return revokeTimeout
	case writeOp:
		first := o.steps[0]
		if first.kind == putLeaving {
			return first.r.e.markUntil.Sub(now)
		}
	}

	timeout := callTimeout + c.health.took
	if Removes(o) {
		return timeout
	}

	return min(timeout<<min(max(c.health.hung-1, 0), 6), MaxTimeout)
}

// Patience returns how long a call that removes nothing may take when a removal
// waits for it.
func (c *Core) Patience() time.Duration {
	return shortTime + c.health.took
}

// MustGiveWay reports whether the call under way must give way if it removes
// nothing.
func (c *Core) MustGiveWay() bool {
	return c.hurry
}

// Waited makes a check due at once if a wait for the next call took so long, by
// the wall clock, that the machine has slept.
func (c *Core) Waited(now time.Time, took time.Duration) {
	if took > sleepGap {
		c.CheckSoon(now)
	}
}

// due returns the most urgent call, nil if none is due. Removals come first, so
// that they never wait for puts.
func (c *Core) due(w *wait) Op {
	var spare []*heldLease // the leases that no desired entry needs
	for _, h := range c.held {
		if h.id != c.lease && !c.needed(h.id) {
			spare = append(spare, h)
		}
	}

	steps := batch(c.records(), func(r *record) *write {
		return c.nextRemoval(w, r, spare)
	})
	if len(steps) > 0 {
		return writeOp{steps}
	}

	for _, h := range spare {
		if !w.waitsFor(h.revokeAt) {
			return RevokeOp{h.id}
		}
	}

	steps = batch(c.records(), func(r *record) *write { return c.nextRead(w, r) })
	if len(steps) > 0 {
		return readOp{steps, false}
	}

	if c.lease == 0 && c.leaseNeeded(present) {
		if !w.waitsFor(c.grants.at) {
			return GrantOp{}
		}
	}

	steps = batch(c.records(), func(r *record) *write { return c.nextPut(w, r) })
	if len(steps) > 0 {
		return writeOp{steps}
	}

	return c.checks(w)
}

// begin records that a call begins.
func (c *Core) begin(now time.Time, o Op) {
	switch o := o.(type) {
	case RevokeOp:
		c.get(o.Lease).revokeAt = now.Add(revokeAgain)
	case AttachedOp:
		c.get(o.Lease).ask.shut(now, c.jitter)

	case writeOp:
		for _, st := range o.steps {
			st.r.busy = true
		}

	case readOp:
		if o.compare {
			c.check.rest = c.check.rest[len(o.steps):]
		}
	}
}

// batch returns the steps of one transaction: its writes are of one kind, and
// on one lease. writeOf returns the write that is due for a key, or nil. An
// unbatched key has a transaction of its own.
func batch(records iter.Seq[*record], writeOf func(*record) *write) (steps []step) {
	bytes := 0
	for r := range records {
		next := writeOf(r)
		if next == nil {
			continue
		}

		if len(steps) > 0 &&
			(next.lease != steps[0].lease || next.kind != steps[0].kind) {
			continue
		}

		// the key is in the guard, the write and the read
		bytes += 3*len(r.key) + len(next.value) + 64
		if len(steps) > 0 && (r.unbatched || bytes > maxBytes) {
			break
		}

		steps = append(steps, step{r, *next})
		if r.unbatched || len(steps) == maxOps {
			break
		}
	}

	return steps
}

// mustRemove reports whether a key must be removed from etcd. A process has all
// keys of an instance or none: if another process takes one key of an entry,
// the entry gives up the others.
func (c *Core) mustRemove(r *record) bool {
	if r.e.desired != present {
		return true
	}

	if r.retired {
		return c.placedOn(r.e, c.lease)
	}

	return c.conflict(r.e) != nil
}

// needsMark reports whether a key must get the mark of leaving, by one more
// put, before it is deleted.
func (c *Core) needsMark(now time.Time, r *record) bool {
	return r.e.desired != present &&
		!r.retired &&
		r.leaving() != "" &&
		r.observed.Value != r.leaving() &&
		c.alive(now, r.observed.Lease) && now.Before(r.e.markUntil)
}

// nextRemoval returns the write that marks a key as leaving or deletes it, nil
// if none is due. A key on a spare lease is not deleted: the revocation of the
// lease deletes it.
func (c *Core) nextRemoval(w *wait, r *record, spare []*heldLease) *write {
	if !c.ours(r) || !c.mustRemove(r) {
		return nil
	}

	if w.waitsFor(r.gate.at) {
		return nil
	}

	at := r.observed
	if c.needsMark(w.now, r) {
		return &write{putLeaving, r.leaving(), at.Lease, at.Rev}
	}

	if h := c.get(at.Lease); slices.Contains(spare, h) && !h.denied {
		return nil
	}

	return &write{remove, "", at.Lease, at.Rev}
}

// nextPut returns the put of a key, nil if none is due. The put also settles an
// earlier write without an answer. If the put succeeds, the guard of the
// earlier write fails. If the put's own guard fails, the answer has the key's
// value.
func (c *Core) nextPut(w *wait, r *record) *write {
	if c.lease == 0 || r.retired || c.mustRemove(r) {
		return nil
	}

	if r.on(c.lease) && r.asDesired() {
		return nil
	}

	if w.waitsFor(c.puts.at) || w.waitsFor(r.gate.at) {
		return nil
	}

	return &write{put, r.value(), c.lease, revOf(r.observed)}
}

// nextRead returns the read of a key, nil if none is due. Two kinds of keys
// have no write that would settle their state: a key in doubt that should be
// absent and seems absent, and a key that another process holds. A closing
// session does not read: it revokes the lease.
func (c *Core) nextRead(w *wait, r *record) *write {
	uncertain := r.doubted && !c.ours(r) && c.mustRemove(r)
	conflict := r.claimed() && c.foreign(r) && r.e.desired == present
	if c.closing || !uncertain && !conflict {
		return nil
	}

	if w.waitsFor(r.gate.at) {
		return nil
	}

	return &write{rev: revOf(r.observed)}
}

// checks returns the next read of the keys on the current lease, or of the
// check under way, or nil.
func (c *Core) checks(w *wait) Op {
	if h := c.get(c.lease); h != nil && h.ask != nil {
		if !w.waitsFor(h.ask.at) {
			return AttachedOp{h.id}
		}
	}

	steps := batch(slices.Values(c.check.rest), func(r *record) *write {
		return &write{rev: r.observed.Rev}
	})
	if len(steps) == 0 {
		w.waitsFor(c.check.due)
		return nil
	}

	return readOp{steps, true}
}
