package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Handle is one entry of a session.
type Handle struct {
	s   *Session
	e   *entry
	seq int // counts the changes by SetPaused, so that waits for an earlier one end; guarded by s.mu
}

// Status is the state of an entry at one moment.
type Status struct {
	State State
	Key   string           // the first key of the entry
	Lease clientv3.LeaseID // 0 if the entry has no lease now
	Err   error            // why the entry is not registered
	Since time.Time        // when State was entered
}

// Status returns the status of the entry now.
func (h *Handle) Status() Status {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	now, id := time.Now(), h.s.core.leaseOf(h.e)
	err := h.s.core.errOf(now, h.e)
	if err == nil && h.e.state == Registered {
		err = h.s.core.overdue(now, id)
	}
	return Status{h.e.state, h.e.key(), id, err, h.e.since}
}

// Set gives the entry new values, which are written in the background. The keys must stay the same.
func (h *Handle) Set(items []Item) error {
	return h.change(func(now time.Time) { h.s.core.update(now, h.e, items) })
}

// SetPaused takes the entry out of etcd, or puts it back, in the background. wait returns nil once that is done,
// ErrSuperseded after a later change, and otherwise the errors of Sync.
func (h *Handle) SetPaused(pause bool) (wait func(context.Context) error, err error) {
	var seq int
	err = h.change(func(now time.Time) {
		if h.s.core.setPaused(now, h.e, pause) {
			h.seq++
		}
		seq = h.seq
	})
	return func(ctx context.Context) error {
		return h.wait(ctx, func(e *entry) (bool, error) {
			if h.seq != seq {
				return false, ErrSuperseded
			}
			return h.s.core.synced(e)
		})
	}, err
}

// Sync returns when the entry is in etcd as desired, or out of etcd while it is paused. It returns an error
// if ctx ends first, if the entry is dropped, or if waiting is useless now: another process holds a key, or
// etcd refuses a key.
func (h *Handle) Sync(ctx context.Context) error { return h.wait(ctx, h.s.core.synced) }

// Drop takes the entry out of etcd for good, in the background.
func (h *Handle) Drop() {
	_ = h.change(func(now time.Time) { h.s.core.setDesired(now, h.e, gone) }) // fails only if the entry is dropped already
}

// Close takes the entry out of etcd for good, and returns when it is out. If ctx ends or 5 s pass first,
// it returns an error, and the session keeps trying.
func (h *Handle) Close(ctx context.Context) error {
	h.Drop()
	ctx, cancel := context.WithTimeout(ctx, CloseTimeout)
	defer cancel()
	err := h.wait(ctx, (*entry).ended)
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if err == nil || errors.Is(err, ErrClosed) { // a closed session has ended the entry
		return h.e.why // a key may be left
	}
	return fmt.Errorf("%w: %w", h.s.core.leftoverErr(h.e), err)
}

// change calls do unless the entry is dropped or the session is closed.
func (h *Handle) change(do func(now time.Time)) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.e.desired == gone || h.s.core.closing {
		return ErrDropped
	}
	do(time.Now())
	h.s.hurry()
	h.s.poke()
	h.s.wg.Go(h.s.report) // run itself reports only between calls to etcd
	return nil
}

// wait returns when done reports true or an error. It returns an error when ctx or the session ends.
func (h *Handle) wait(ctx context.Context, done func(*entry) (bool, error)) error {
	for {
		h.s.mu.Lock()
		ok, err := done(h.e)
		changed := h.e.changed.next()
		h.s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-h.s.done:
			return ErrClosed
		case <-ctx.Done():
			if last := h.Status().Err; last != nil {
				return fmt.Errorf("%w; the last error from etcd: %w", context.Cause(ctx), last)
			}
			return h.s.explained(context.Cause(ctx))
		}
	}
}

// notifier wakes goroutines that wait for a change. It is guarded by the session's lock.
type notifier struct{ changed chan struct{} }

// next returns a channel that is closed at the next change.
func (n *notifier) next() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// notify closes the channel that next returned.
func (n *notifier) notify() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}
