package reconcile

import (
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// Answer is the outcome of a call.
type Answer struct {
	Err      error
	Took     time.Duration
	Lease    clientv3.LeaseID // the granted lease
	TTL      time.Duration    // that of the granted lease
	Keys     []string         // the keys on a lease
	Made     bool             // the comparison of a transaction held
	KVs      []*KeyValue      // what a transaction read, nil for a key that is absent
	Revision int64            // of a transaction
}

// OnAnswer records the outcome of a call.
func (c *Core) OnAnswer(now time.Time, o Op, a Answer) {
	if _, revokes := o.(RevokeOp); !revokes && !errors.Is(a.Err, ErrGaveWay) {
		if etcderr.TimedOut(a.Err) {
			c.health.hung++
		} else {
			c.health.took = a.Took
			c.health.hung = 0
		}
	}

	if a.Err != nil {
		c.onFailed(now, o, a.Err)
		return
	}

	switch o := o.(type) {
	case GrantOp:
		c.onGrant(now, a.Lease, a.TTL)
	case RevokeOp:
		c.onLeaseLost(now, o.Lease, nil)
	case AttachedOp:
		c.onAttachedKeys(now, o.Lease, a.Keys)
	case readOp:
		c.onRead(now, o.steps, a.KVs, a.Revision)
	case writeOp:
		c.onWrite(now, o.steps, a.Made, a.KVs, a.Revision)
	}
}

func (c *Core) onFailed(now time.Time, o Op, err error) {
	switch o := o.(type) {
	case GrantOp:
		c.onGrantFailed(now, err)
	case RevokeOp:
		c.onRevokeFailed(now, o.Lease, err)
	case AttachedOp:
		c.onAttachedFailed(now, o.Lease, err)
	case readOp:
		c.onReadFailed(now, o, err)
	case writeOp:
		c.onWriteFailed(now, o.steps, err)
	}
}

// onRead records the values that were read. kvs is nil if all keys are as
// observed.
func (c *Core) onRead(now time.Time, steps []step, kvs []*KeyValue, revision int64) {
	c.health.since = time.Time{}

	// A key may be in doubt after a failed write, and a read that succeeds does
	// not show that the next write will.
	if !c.some(isDoubted) {
		c.calls.open()
		c.health.err = nil
	}

	c.atRevision(revision)

	for i, st := range steps {
		r := st.r
		if kvs != nil {
			c.observe(now, r, kvs[i])
		}

		failed := r.refused != nil || r.unbatched
		if failed && r.asDesired() && !c.foreign(r) {
			r.retry()
		}
	}

	c.refresh(now)
}

// observe records the value of a key, nil if the key is absent.
func (c *Core) observe(now time.Time, r *record, kv *KeyValue) {
	e := r.e
	was := r.observed
	c.markDirty(e)

	if kv != nil && kv.Rev < r.putRev {
		c.onRestored()
	}

	r.observed = kv

	if was != nil && !c.isOwn(was.Lease) && !c.foreign(r) {
		r.gate.at = time.Time{} // another process no longer holds the key
	}

	// A write that is still under way fails its guard, or its key is found on
	// the lease.
	r.doubted = false

	if c.foreign(r) {
		if r.claimed() && e.desired == present {
			r.gate.at = now.Add(conflictEvery)
		}

		return
	}

	if kv != nil {
		r.putRev = kv.Rev
	}
}

// OnWatch records the value of a watched key at a revision, nil if the key is
// absent.
func (c *Core) OnWatch(now time.Time, key string, kv *KeyValue, revision int64) {
	r := c.keys[key]
	switch {
	case r == nil ||
		r.e.desired != present ||
		r.busy ||
		revision < max(r.putRev, revOf(r.observed)):
		c.CheckSoon(now) // the watch lags behind, or etcd was restored

	case revOf(kv) != revOf(r.observed):
		c.observe(now, r, kv)
		c.refresh(now)
	}
}

// onReadFailed records that keys could not be read.
func (c *Core) onReadFailed(now time.Time, o readOp, err error) {
	err = fmt.Errorf("read %q: %w", o.steps[0].r.key, err)
	refused := isRefusal(err)
	if refused {
		c.succeeded()
	} else {
		c.failed(now, err)
	}

	if refused && len(o.steps) == 1 {
		c.onReadRefused(now, o.steps[0].r, err)
	} else {
		// a fault of one key must not affect the other keys
		for _, st := range o.steps {
			st.r.unbatched = st.r.unbatched || refused || mayBeTooLarge(err)

			if o.compare {
				c.check.rest = append(c.check.rest, st.r)
			}
		}
	}

	c.refresh(now)
}

// onReadRefused records that etcd refuses the read of a key, which is read
// again with backoff. If the key is a stray, it belongs to another user.
func (c *Core) onReadRefused(now time.Time, r *record, err error) {
	c.markDirty(r.e)
	r.refuse(now, err, c.jitter)

	if r.gate.at.Before(c.check.due) {
		c.check.due = r.gate.at
	}

	if r.e.owner != nil {
		c.reportRefusals(now)
		return
	}

	r.observed = nil
	r.doubted = false
	c.onForeignKeyOnLease(now, c.lease, err)
}

// onWrite records the answer to a transaction. If a guard failed, made is
// false, and kvs has the present values.
func (c *Core) onWrite(
	now time.Time,
	steps []step,
	made bool,
	kvs []*KeyValue,
	revision int64,
) {
	c.succeeded()

	// first, because a restore puts all keys in doubt, and the steps settle
	// theirs
	c.atRevision(revision)

	for i, st := range steps {
		st.r.busy = false

		if made {
			c.onStep(now, st, revision)
		} else {
			c.observe(now, st.r, kvs[i])
		}
	}

	c.refresh(now)
}

// onStep records that a step was made.
func (c *Core) onStep(now time.Time, st step, revision int64) {
	r := st.r
	c.markDirty(r.e)
	r.made(now, st.write, revision)

	if st.kind == remove {
		if h := c.get(st.lease); h != nil && h.ask == nil {
			c.ask(now, h, askMax)
		}

		return
	}

	c.puts.open()

	// a renewal may have shown that the lease is gone, and so the key
	if c.get(st.lease) == nil {
		r.observed = nil
		r.gate.at = time.Time{}
	}
}

// ask schedules regular reads of the keys on a lease, the first after a pause.
func (c *Core) ask(now time.Time, h *heldLease, pause time.Duration) {
	ask := gateOf(pause, askMax)
	ask.shut(now, c.jitter)
	h.ask = &ask
}

// onAttachedKeys records the keys on a lease. Keys without an entry are strays:
// they are deleted.
func (c *Core) onAttachedKeys(now time.Time, id clientv3.LeaseID, keys []string) {
	c.succeeded()

	strays := false
	for _, key := range keys {
		r := c.keys[key]
		if r == nil {
			r = c.addStray(key)
		}

		strays = strays || r.e.owner == nil

		if !r.on(id) {
			r.doubted = true
			c.markDirty(r.e)
		}
	}

	if !strays {
		c.reportRefusals(now)
	}

	c.refresh(now)
}

// addStray adds an entry for a key without one, so that the key is deleted.
func (c *Core) addStray(key string) *record {
	item := Item{Key: func(clientv3.LeaseID) string { return key }}
	e := &Entry{items: []Item{item}, desired: gone}
	r := newRecord(e, 0, key)
	e.records = []*record{r}
	c.keys[key] = r
	c.entries = append(c.entries, e)

	return r
}

// onAttachedFailed records that the keys on a lease could not be read. etcd
// refuses the read if we may not read one of the keys.
func (c *Core) onAttachedFailed(now time.Time, id clientv3.LeaseID, err error) {
	err = fmt.Errorf("ask for the keys on lease %x: %w", id, err)
	h := c.get(id)
	switch {
	case !isRefusal(err):
		c.failed(now, err)

		if h != nil {
			h.ask.at = now
		}

	case h != nil:
		c.succeeded()
		c.onForeignKeyOnLease(now, id, err)
	}

	c.refresh(now)
}

// onForeignKeyOnLease handles a denied read or deletion of a key on lease id:
// the key is another user's. With such a key on the current lease, etcd may
// deny all puts. If it denies one of ours, the entries move to another lease,
// with backoff.
func (c *Core) onForeignKeyOnLease(now time.Time, id clientv3.LeaseID, why error) {
	refused := func(r *record) bool { return r.refused != nil && r.e.owner != nil }
	if id != c.lease || !c.some(refused) || now.Before(c.moves.at) {
		c.reportRefusals(now)
		return
	}

	c.moves.shut(now, c.jitter)
	c.replaceLease(why)

	for r := range c.records() {
		r.retry()
	}
}

// reportRefusals copies the refusals of keys to their entries.
func (c *Core) reportRefusals(now time.Time) {
	for r := range c.records() {
		if r.refused != nil {
			r.e.refused = r.refused
		}
	}

	c.warn(now, nil, wasRefused)
}

// onWriteFailed records that a transaction failed or got no answer.
func (c *Core) onWriteFailed(now time.Time, steps []step, err error) {
	for _, st := range steps {
		st.r.busy = false
		c.markDirty(st.r.e)
	}

	failure := fmt.Errorf("%s %q: %w", steps[0].kind, steps[0].r.key, err)

	switch {
	case isLeaseNotFound(err):
		c.onLeaseLost(now, steps[0].lease,
			fmt.Errorf("lease %x expired or was revoked", steps[0].lease))
	case errors.Is(err, rpctypes.ErrNoSpace):
		c.onFull(now, steps, err)
	case isBusy(err):
		c.failed(now, failure)

	case !isRefusal(err):
		c.onUnanswered(now, steps)
		c.failed(now, failure)

		for _, st := range steps {
			st.r.unbatched = st.r.unbatched || mayBeTooLarge(err)
		}

	case len(steps) > 1:
		c.succeeded()

		// A fault of one key must not affect the other keys. The write may have
		// been applied: gRPC has the same error for a response that is too
		// large.
		for _, st := range steps {
			st.r.unbatched = true
			st.r.doubted = true
		}

	default:
		c.succeeded()
		c.onWriteRefused(now, steps[0], err)
	}

	c.refresh(now)
}

// onUnanswered records that steps may have been applied, or may be applied
// later.
func (c *Core) onUnanswered(now time.Time, steps []step) {
	for _, st := range steps {
		st.r.doubted = true

		if h := c.get(st.lease); h != nil && st.kind == put && st.rev == 0 {
			c.ask(now, h, askMin)
		}
	}
}

// onWriteRefused records that etcd refuses the write of one key. A denied put
// may be due to another user's key on the lease, so the keys on the lease are
// read first. After a denied deletion, the lease is revoked once the other
// entries have moved.
func (c *Core) onWriteRefused(now time.Time, st step, err error) {
	r := st.r
	if st.kind == putLeaving {
		r.e.markUntil = time.Time{}
		return
	}

	if st.kind == put && st.value != r.value() {
		return // etcd refused an outdated value
	}

	first := r.refused == nil
	denied := isDenied(err)

	err = fmt.Errorf("key %q: %w", r.key, err)
	if denied {
		err = fmt.Errorf(
			"%w (a registration needs permission to read and to write its keys)", err)
	}

	r.refuse(now, err, c.jitter)

	h := c.get(st.lease)
	switch {
	case h == nil || !first || !denied:
		c.reportRefusals(now)
	case st.kind == remove:
		c.onForeignKeyOnLease(now, st.lease, err)
	default:
		c.ask(now, h, askMin)
		h.ask.open()
	}
}

// onFull records that etcd has no space for puts. It still accepts deletions,
// so keys are deleted without the mark of leaving.
func (c *Core) onFull(now time.Time, steps []step, err error) {
	c.succeeded()
	c.puts.shut(now, c.jitter)

	for _, st := range steps {
		if st.kind == putLeaving {
			st.r.e.markUntil = time.Time{}
			continue
		}

		st.r.e.refused = fmt.Errorf("put %q: %w", st.r.key, err)
	}

	c.warn(now, nil, wasRefused)
}

func isLeaseNotFound(err error) bool {
	return errors.Is(err, rpctypes.ErrLeaseNotFound)
}

func isDenied(err error) bool {
	return etcderr.Code(err) == codes.PermissionDenied
}

// isBusy reports whether etcd refused a request because too many are pending.
func isBusy(err error) bool {
	return errors.Is(err, rpctypes.ErrTooManyRequests)
}

// mayBeTooLarge reports whether a proxy may have refused a request as too
// large. gRPC reports HTTP status 413 as Unknown.
func mayBeTooLarge(err error) bool {
	return etcderr.Code(err) == codes.Unknown && !etcderr.TimedOut(err)
}

// isRefusal reports whether an error is an answer that a retry would not
// change.
func isRefusal(err error) bool {
	if isBusy(err) {
		return false
	}

	switch etcderr.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted,
		codes.OutOfRange, codes.Unimplemented:
		return true
	}

	return false
}
