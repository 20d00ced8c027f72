// Package lease keeps keys of this process in etcd for as long as the process wants them there: on
// one lease, which it renews, and puts back when they or the lease are lost.
package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// callTimeout bounds each call to etcd.
	callTimeout = 3 * time.Second
	// tick is how often the owner looks at the clock when there is nothing to do.
	tick = time.Second
	// closeTimeout bounds what waits for etcd in order to end something, for callers who do not.
	closeTimeout = 5 * time.Second
)

// ErrClosed is what a session's methods return after its Close.
var ErrClosed = errors.New("the registry is closed")

// State is how an entry stands.
type State int

// The states of an entry.
const (
	Registering State = iota // not in etcd yet
	Registered               // in etcd, on a lease that is being renewed
	Lost                     // was in etcd and, as far as known, is not; it is being put back
	Conflict                 // someone else holds a key of it; it is taken again when they let go
	Paused                   // taken out of etcd on demand
	Closed                   // taken out of etcd for good

	Unborn State = -1 // what Options.Changed is told that an entry was before it was there
)

func (s State) String() string {
	switch s {
	case Registering:
		return "registering"
	case Registered:
		return "registered"
	case Lost:
		return "lost"
	case Conflict:
		return "conflict"
	case Paused:
		return "paused"
	case Closed:
		return "closed"
	}
	return fmt.Sprintf("State(%d)", int(s))
}

// Item is one key of an entry and its value.
type Item struct {
	Key   func(clientv3.LeaseID) string // a pure function; most do not look at the lease
	Value string
}

// Status tells how an entry stands.
type Status struct {
	State State
	Key   string           // the entry's first
	Lease clientv3.LeaseID // 0: none now
	Err   error            // what keeps the entry from being registered
	Since time.Time        // when State was entered
}

// Options configure a Session.
type Options struct {
	TTL     time.Duration                    // asked of etcd, which may grant more
	Logger  *slog.Logger                     // gets a line at each change of state
	Changed func(key string, from, to State) // called at each change of state; may be nil
}

// Session is one lease and the entries on it. The lease is granted when the first entry needs it
// and revoked with the last. Its methods are safe for concurrent use.
type Session struct {
	client *clientv3.Client
	opts   Options

	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{}
	done   chan struct{} // closed when the owner has ended, and all that it started
	wg     sync.WaitGroup

	mu      sync.Mutex
	core    *core
	started bool
	stopKA  context.CancelFunc
	watches map[string]*watch
}

// New makes a session. It does no I/O and starts nothing.
func New(client *clientv3.Client, opts Options) *Session {
	ctx, cancel := context.WithCancel(context.Background())
	return &Session{
		client: client, opts: opts, ctx: ctx, cancel: cancel,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		core: newCore(opts.TTL), watches: make(map[string]*watch),
	}
}

// Start announces an entry, or remembers it when it is to be paused, in the background and for as
// long as it takes. A key that is there already is taken over: this process is the newer one.
func (s *Session) Start(items []Item, pause bool) (*Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.closing {
		return nil, ErrClosed
	}
	e, err := s.core.add(time.Now(), items, pause)
	if err != nil {
		return nil, err
	}
	if !s.started {
		s.started = true
		go s.own()
	}
	s.poke()
	return &Handle{s, e}, nil
}

// Close takes everything out of etcd by revoking the lease. It returns when that is done, or with
// an error that says what is left to expire by itself when ctx ends or 5 s have passed. Nothing is
// left running in either case.
func (s *Session) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	s.mu.Lock()
	s.core.close(time.Now())
	started := s.started
	s.poke()
	s.mu.Unlock()
	if !started {
		s.cancel()
		return nil
	}
	select {
	case <-s.done:
	case <-ctx.Done():
		s.cancel()
		<-s.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.leftover(context.Cause(ctx))
}

// poke makes the owner look again. It never blocks.
func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Handle is one entry of a session.
type Handle struct {
	s *Session
	e *entry
}

// Status tells how the entry stands now.
func (h *Handle) Status() Status {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	status := Status{State: h.e.state, Key: h.e.key(), Lease: h.s.core.lease, Err: h.e.err, Since: h.e.since}
	if status.State == Closed {
		status.Lease = 0
	}
	return status
}

// Set gives the entry new values under its keys. They are written in the background.
func (h *Handle) Set(items []Item) error {
	return h.change(func() error { return h.s.core.update(h.e, items) })
}

// SetPaused takes the entry out of etcd, or puts it back, in the background.
func (h *Handle) SetPaused(pause bool) error {
	return h.change(func() error {
		h.e.want = present
		if pause {
			h.e.want = paused
		}
		return nil
	})
}

// Sync returns when the entry is in etcd as it is wanted, or out of it when that is wanted. It
// returns an error when ctx ends before, or when waiting is of no use for now: someone else holds a
// key, or etcd refuses it.
func (h *Handle) Sync(ctx context.Context) error {
	return h.wait(ctx, func(e *entry) (bool, error) {
		if e.state == Conflict {
			return false, e.err
		}
		return e.upToDate(), e.refused
	})
}

// Drop takes the entry out of etcd for good, in the background.
func (h *Handle) Drop() {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	h.e.want, h.e.refused, h.e.retryAt = gone, nil, time.Time{}
	h.s.core.refresh(time.Now())
	h.s.poke()
}

// Close takes the entry out of etcd for good, and returns when it is; after 5 s, or when ctx ends,
// with an error. The session goes on trying then.
func (h *Handle) Close(ctx context.Context) error {
	h.Drop()
	ctx, cancel := context.WithTimeout(ctx, closeTimeout)
	defer cancel()
	err := h.wait(ctx, func(e *entry) (bool, error) { return e.state == Closed, e.refused })
	if err == nil || errors.Is(err, ErrClosed) {
		return nil
	}
	key, id := h.left()
	return fmt.Errorf("key %q may stay in etcd until lease %x expires: %w", key, int64(id), err)
}

// left is what of the entry may still be in etcd, and the lease that it hangs on.
func (h *Handle) left() (key string, id clientv3.LeaseID) {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	for _, s := range h.e.slots {
		if s.touched {
			return s.key, s.lease
		}
	}
	return h.e.key(), h.s.core.lease
}

// change makes a change to what is wanted of the entry.
func (h *Handle) change(do func() error) error {
	h.s.mu.Lock()
	defer h.s.mu.Unlock()
	if h.e.want == gone || h.s.core.closing {
		return errors.New("the registration is closed")
	}
	if err := do(); err != nil {
		return err
	}
	h.e.refused, h.e.retryAt = nil, time.Time{}
	h.s.core.refresh(time.Now())
	h.s.poke()
	return nil
}

// wait returns when done says so, or with an error when ctx or the session ends.
func (h *Handle) wait(ctx context.Context, done func(*entry) (bool, error)) error {
	for {
		h.s.mu.Lock()
		ok, err := done(h.e)
		last := h.e.err
		if h.e.notify == nil {
			h.e.notify = make(chan struct{})
		}
		notify := h.e.notify
		h.s.mu.Unlock()
		if ok || err != nil {
			return err
		}
		select {
		case <-notify:
		case <-h.s.done:
			return ErrClosed
		case <-ctx.Done():
			if last != nil {
				return fmt.Errorf("%w; the last error from etcd: %w", context.Cause(ctx), last)
			}
			return context.Cause(ctx)
		}
	}
}

type conflictError struct {
	key   string
	lease clientv3.LeaseID
}

func (e conflictError) Error() string {
	if e.lease == 0 {
		return fmt.Sprintf("key %q was put by someone else, on no lease: delete it, or register under another instance id", e.key)
	}
	return fmt.Sprintf("key %q is held by another process, on lease %x: give each its own instance id", e.key, int64(e.lease))
}

// jitter takes up to a quarter off d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
