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
		c.health.hung++

		if !etcderr.TimedOut(a.Err) {
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

// onRead records the values of the steps' keys. kvs is nil if all keys are as
// observed.
func (c *Core) onRead(now time.Time, steps []step, kvs []*KeyValue, revision int64) {
	c.health.since = time.Time{}

	// a doubt may be from a failed write: a successful read does not mean that
	// the next write will succeed
	if !c.some(isDoubted) {
		c.calls.open()
		c.health.err = nil
	}

	c.atRevision(revision)

	for i, st := range steps {
		if kvs != nil {
			c.observe(now, st.r, kvs[i])
		}

		if st.r.asDesired() &&
			!c.foreign(st.r) &&
			(st.r.refused != nil || st.r.unbatched) {
			st.r.retry()
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

	r.doubted = false // a late write fails its guard, or its key is found on the lease

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
		for _, st := range o.steps { // a fault of one key must not affect the other keys
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
	c.atRevision(revision) // before the steps, which resolve doubts that a restore raises

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
	c.markDirty(st.r.e)
	st.r.made(now, st.write, revision)

	if st.kind == remove {
		if h := c.get(st.lease); h != nil && h.ask == nil {
			c.ask(now, h, askMax)
		}

		return
	}

	c.puts.open()

	if c.get(st.lease) == nil {
		st.r.observed = nil

		// a renewal has shown that the lease is gone, and so the key
		st.r.gate.at = time.Time{}
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
			e := &Entry{items: []Item{{Key: func(clientv3.LeaseID) string {
				return key
			}}}, desired: gone}
			r = newRecord(e, 0, key)
			e.records = []*record{r}
			c.keys[key] = r
			c.entries = append(c.entries, e)
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

// onAttachedFailed records that the keys on a lease could not be read. etcd
// refuses the read if we may not read one of the keys.
func (c *Core) onAttachedFailed(now time.Time, id clientv3.LeaseID, err error) {
	err = fmt.Errorf("ask for the keys on lease %x: %w", int64(id), err)
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

// onForeignKeyOnLease records that etcd denies us the read or deletion of a key
// on lease id. If puts are denied, too, the entries move to another lease, with
// backoff.
func (c *Core) onForeignKeyOnLease(now time.Time, id clientv3.LeaseID, why error) {
	denied := func(r *record) bool { return r.refused != nil && r.e.owner != nil }
	if !c.some(denied) || id != c.lease || now.Before(c.moves.at) {
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
			fmt.Errorf("lease %x expired or was revoked", int64(steps[0].lease)))
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

	case len(steps) > 1: // a fault of one key must not affect the other keys
		c.succeeded()

		for _, st := range steps {
			st.r.unbatched = true

			// etcd may have applied the write: gRPC returns the same error for
			// too large a response
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

// onWriteRefused records that etcd refuses the write of one key. etcd also
// denies puts if another user's key is on the lease, so the keys on the lease
// are read first. After a denied deletion, the lease is revoked once the other
// entries have moved.
func (c *Core) onWriteRefused(now time.Time, st step, err error) {
	r := st.r
	first := st.r.refused == nil

	switch {
	case st.kind == mark:
		r.e.markUntil = time.Time{}
		return
	case st.kind == put && st.value != r.value():
		return // etcd refused an outdated value

	case isDenied(err):
		err = fmt.Errorf(
			"key %q: %w (a registration needs permission to read and to write its keys)",
			r.key, err)

	default:
		err = fmt.Errorf("key %q: %w", r.key, err)
	}

	r.refuse(now, err, c.jitter)

	switch h := c.get(st.lease); {
	case h == nil || !first || !isDenied(err):
		c.reportRefusals(now)
	case st.kind == remove:
		c.onForeignKeyOnLease(now, st.lease, err)
	default:
		c.ask(now, h, askMin)
		h.ask.open()
	}
}

// onFull records that etcd has no space left. It accepts deletions, but no
// puts. So keys are deleted without a mark.
func (c *Core) onFull(now time.Time, steps []step, err error) {
	c.succeeded()
	c.puts.shut(now, c.jitter)

	for _, st := range steps {
		if st.kind == mark {
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
