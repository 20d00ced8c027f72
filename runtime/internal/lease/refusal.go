package lease

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// complainEvery is the least time between two complaints about the same.
const complainEvery = time.Minute

// complaint is a log line about something that keeps entries out of etcd.
type complaint struct {
	key    string
	others int // further entries that are kept out
	err    error
}

// batchSize is the number of keys that a transaction may have. It is halved when etcd refuses a transaction,
// down to the key at fault, and doubled when etcd takes a full one.
type batchSize int

func (n *batchSize) shrink(used int) { *n = batchSize(max(1, min(int(*n), used)/2)) }

func (n *batchSize) grow(used int) {
	if used >= int(*n) {
		*n = min(2**n, MaxOps)
	}
}

// writeFailed takes in that a transaction failed or was not answered.
func (c *core) writeFailed(now time.Time, steps []step, err error) {
	for i := range steps {
		steps[i].s.pending = nil
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
		c.refusedStep(now, &steps[0], err)
	}
	c.wentMeanwhile(now, steps)
	c.refresh(now)
}

// unanswered takes in that steps may have arrived, or may yet arrive.
func (c *core) unanswered(now time.Time, steps []step) {
	for i := range steps {
		st := &steps[i]
		if st.kind == mark { // tried once: the deletion matters more
			st.s.markRev = st.rev
			c.skipMarks()
			continue
		}
		st.s.pending = st
		st.s.ambiguous = append(st.s.ambiguous, st.lease)
		if st.kind == remove {
			st.s.deletions = append(st.s.deletions, st.lease)
		}
		if st.s.blind {
			st.s.pending = nil
			c.replaceLease(now, st.lease, errUnsettled(st.s.key))
		}
	}
}

// skipMarks has the keys that are to go removed without a mark, because etcd is slow.
func (c *core) skipMarks() {
	for _, e := range c.entries {
		for _, s := range e.slots {
			s.marked = s.marked || e.want != present
		}
	}
}

func errUnsettled(key string) error {
	return fmt.Errorf("key %q: etcd did not answer a write, and the key cannot be read", key)
}

// refusedStep takes in that etcd refused the write of one key.
func (c *core) refusedStep(now time.Time, st *step, err error) {
	s := st.s
	err = fmt.Errorf("key %q: %w", s.key, err)
	switch {
	case st.kind == mark:
		s.marked = true
	case st.kind != remove && st.value != s.value: // not a refusal of the present value
	case !isDenied(err):
		c.refuse(now, st, err)
	case st.kind == put && s.readTells(now):
		// The guard needs the right to read, too. A read tells which of the two is missing.
	case st.kind == remove:
		c.removalDenied(now, st, err)
	case c.suspectLease(now, st, err):
	default:
		c.refuse(now, st, err)
	}
}

// refuse takes in that etcd refuses the write of a key for the key's sake.
func (c *core) refuse(now time.Time, st *step, err error) {
	s := st.s
	c.writeSize.grow(1)
	s.refuse(now, err, c.jitter)
	st.e.refused, st.e.err = err, err
	c.complain(now, err, refused)
}

// suspectLease replaces the lease because of one denied put: another user's key may hang on it, and etcd then
// denies our puts. It reports false if that was tried lately, so that the key is at fault.
func (c *core) suspectLease(now time.Time, st *step, err error) bool {
	if now.Before(st.s.suspectAt) {
		return false
	}
	st.s.suspectAt = now.Add(st.s.suspicions.Bound())
	if now.Before(c.suspectAt) || st.lease != c.lease {
		return false
	}
	c.suspectAt = now.Add(suspectEvery)
	c.replaceLease(now, st.lease, err)
	return true
}

// removalDenied replaces the lease, whose end removes the key. Revoking it takes no right to read.
func (c *core) removalDenied(now time.Time, st *step, err error) {
	if h := c.held(st.lease); h != nil && !h.denied && st.s.refused == nil {
		c.replaceLease(now, st.lease, err)
		st.s.retryAt = now.Add(refusedMin)
		return
	}
	c.refuse(now, st, err)
}

// etcdFull takes in that etcd has no space left. It refuses puts then, and takes deletions.
func (c *core) etcdFull(now time.Time, steps []step, err error) {
	c.succeeded()
	c.putsAt = now.Add(c.jitter(c.full.Bound()))
	for i := range steps {
		st := &steps[i]
		if st.kind == mark {
			st.s.marked = true
			continue
		}
		st.e.refused = fmt.Errorf("put %q: %w", st.s.key, err)
		st.e.err = st.e.refused
	}
	c.complain(now, err, refused)
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
		c.unreadable(now, probes[0])
		c.readSize.grow(1)
	}
	c.refresh(now)
}

// requeue puts the probes of a check back. Reads come again by themselves.
func (c *core) requeue(probes []probe) {
	for _, l := range probes {
		if l.compare {
			c.queue = append(c.queue, probe{e: l.e, s: l.s})
		}
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
	c.grantAt = now.Add(c.jitter(c.grants.Bound()))
	for _, e := range c.entries {
		if e.want == present && e.state != Registered {
			e.refused, e.err = err, err
		}
	}
	c.complain(now, err, unregistered)
	c.refresh(now)
}

// revokeFailed takes in that a lease was not revoked.
func (c *core) revokeFailed(now time.Time, id clientv3.LeaseID, err error) {
	switch {
	case isLeaseNotFound(err):
		c.lost(now, id, err)
	case isRefusal(err):
		c.revokeDenied(now, id)
	default:
		if h := c.held(id); h != nil {
			h.proven = time.Time{} // the lease may go whatever becomes of the next attempt
		}
		c.failed(now, fmt.Errorf("revoke lease %x: %w", int64(id), err))
	}
}

// failed takes in a failure that is likely to pass. All calls wait a little.
func (c *core) failed(now time.Time, err error) {
	c.retryAt = now.Add(c.jitter(c.retry.Bound()))
	for _, e := range c.entries {
		if e.state != Registered && e.want != paused {
			e.err = err
		}
	}
	c.complain(now, err, unregistered)
}

// complain has it logged that etcd does not have entries as they are wanted: the first time, then rarely.
func (c *core) complain(now time.Time, err error, affected func(*entry) bool) {
	var out []*entry
	for _, e := range c.entries {
		if e.want == present && affected(e) {
			out = append(out, e)
		}
	}
	next := &c.complainAt[0]
	if isRefusal(err) {
		next = &c.complainAt[1] // what somebody must mend is not hidden behind what passes
	}
	if len(out) == 0 || now.Before(*next) {
		return
	}
	*next = now.Add(complainEvery)
	c.complaints = append(c.complaints, complaint{out[0].key(), len(out) - 1, err})
}

func unregistered(e *entry) bool { return e.state != Registered }

func refused(e *entry) bool { return e.refused != nil }

func isLeaseNotFound(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

func isDenied(err error) bool { return etcderr.Code(err) == codes.PermissionDenied }

func isFull(err error) bool { return errors.Is(err, rpctypes.ErrNoSpace) }

// isBusy reports whether etcd has taken no notice of a request because it has too many.
func isBusy(err error) bool { return errors.Is(err, rpctypes.ErrTooManyRequests) }

// isRefusal reports whether an error is an answer that a retry does not change.
func isRefusal(err error) bool {
	if isBusy(err) {
		return false
	}
	switch etcderr.Code(err) {
	case codes.PermissionDenied, codes.InvalidArgument, codes.ResourceExhausted, codes.OutOfRange, codes.Unimplemented:
		return true
	}
	return false
}

// mayHaveArrived reports whether the answer may have been refused instead of the request: gRPC has one error
// for messages that are too large to receive, on either side.
func mayHaveArrived(err error) bool {
	return etcderr.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "received message larger")
}
