package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// Handle is one entry of a session.
type Handle struct {
	s       *Session
	e       *reconcile.Entry
	service string // the service key

	// Guarded by s.mu.
	seq int // counts the changes by SetPaused

	changed chan struct{} // closed when the status may have changed; nil if nobody waits

	// Used by report only.
	lines [Closed]loglimit.Limiter // limits lines about losses and conflicts, by state

	unlogged bool // the last loss or conflict was not logged
}

// Status returns the status of the entry now.
func (h *Handle) Status() Status {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()

	return h.s.core.Status(time.Now(), h.e)
}

// Set gives the entry new values, which are written in the background. The keys
// must stay the same.
func (h *Handle) Set(items []Item) error {
	return h.change(func(now time.Time) { h.s.core.Update(now, h.e, items) })
}

// SetPaused removes the entry from etcd, or puts it back, in the background.
// wait returns nil once that is done, ErrSuperseded after a later change, and
// otherwise the errors of Sync.
func (h *Handle) SetPaused(pause bool) (wait func(context.Context) error, err error) {
	var seq int
	err = h.change(func(now time.Time) {
		if h.s.core.SetPaused(now, h.e, pause) {
			h.seq++
		}

		seq = h.seq
	})

	synced := func(e *reconcile.Entry) (bool, error) {
		if h.seq != seq {
			return false, ErrSuperseded
		}

		return h.s.core.Synced(e)
	}

	return func(ctx context.Context) error { return h.wait(ctx, synced) }, err
}

// Sync returns when the entry is in etcd as desired, or out of etcd while it is
// paused. It returns an error if ctx ends first, if the entry is dropped, or if
// waiting is useless now: another process holds a key, or etcd refuses a key.
func (h *Handle) Sync(ctx context.Context) error {
	return h.wait(ctx, h.s.core.Synced)
}

// Drop removes the entry from etcd for good, in the background.
func (h *Handle) Drop() {
	// fails only if the entry is dropped already
	_ = h.change(func(now time.Time) { h.s.core.Drop(now, h.e) })
}

// Close returns when a dropped entry is out of etcd. If ctx ends first, it
// returns an error, and the session keeps trying.
func (h *Handle) Close(ctx context.Context) error {
	err := h.wait(ctx, (*reconcile.Entry).Ended)
	if err == nil || errors.Is(err, ErrClosed) { // a closed session has ended the entry
		return h.Status().Err // names a key that may remain
	}

	h.s.mu.Lock()
	defer h.s.mu.Unlock()

	return fmt.Errorf("%w: %w", h.s.core.LeftoverErr(h.e), err)
}

// change calls do unless the entry is dropped or the session is closed.
func (h *Handle) change(do func(now time.Time)) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()

	if h.e.Dropped() {
		return reconcile.ErrDropped
	}

	do(time.Now())
	h.s.hurry()
	h.s.poke()
	h.s.wg.Go(h.s.report) // run itself reports only between calls to etcd

	return nil
}

// wait returns when done reports true or an error. It returns an error when ctx
// or the session ends. It calls done with s.mu held.
func (h *Handle) wait(
	ctx context.Context,
	done func(*reconcile.Entry) (bool, error),
) error {
	for {
		h.s.mu.Lock()
		ok, err := done(h.e)

		if h.changed == nil {
			h.changed = make(chan struct{})
		}

		changed := h.changed
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
				return fmt.Errorf("%w; the last error from etcd: %w", context.Cause(ctx),
					last)
			}

			return h.s.explained(context.Cause(ctx))
		}
	}
}

// Changed wakes the goroutines that wait for a change of the status. mu is
// held.
func (h *Handle) Changed() {
	if h.changed != nil {
		close(h.changed)
		h.changed = nil
	}
}
