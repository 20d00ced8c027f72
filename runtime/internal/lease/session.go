// Package lease keeps keys of this process in etcd for as long as the process wants them there. They are on
// one lease, which it renews. Keys that are lost or changed are put back.
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

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

const (
	// callTimeout bounds each call to etcd.
	callTimeout = 3 * time.Second
	// markTimeout bounds the call that marks keys as leaving, renewTimeout a renewal out of turn, and
	// askTimeout the question that goes before that.
	markTimeout  = time.Second
	askTimeout   = 500 * time.Millisecond
	renewTimeout = 2 * time.Second
	// slowCall is the time after which a call without an answer is logged.
	slowCall = time.Second
	// tick is the longest time that the session's goroutine waits.
	tick = time.Second
	// CloseTimeout bounds the Close methods, for callers who do not.
	CloseTimeout = 5 * time.Second
)

// ErrClosed is what a session's methods return after its Close.
var ErrClosed = errors.New("the registry is closed")

// ErrDropped is what the methods of an entry return after its Drop or Close.
var ErrDropped = errors.New("the registration is closed")

// ErrSuperseded is what Wait returns once a later SetPaused has said otherwise.
var ErrSuperseded = errors.New("a later call has said otherwise")

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

	Initial State = -1 // before the first state; only Options.Changed gets it
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
	Key   func(clientv3.LeaseID) string // a pure function; most ignore the lease
	Value string
	// Leaving is put in the place of Value just before the key is deleted, to tell readers that its owner
	// deletes it. "": there is no room for such a mark.
	Leaving string
	// Elect makes the key a candidate. It is called with each change of what is known of the key, one call at a time,
	// and must neither block nor call the session. When the key is to go, it is called before etcd is. An entry has
	// one candidate at the most, after its other keys. etcd does not have the candidate without these.
	Elect func(Candidacy)
	// Election names the candidate's election. No transaction creates two candidates of one: they would have one
	// create revision.
	Election string
}

// Options configure a Session.
type Options struct {
	TTL     time.Duration                    // asked of etcd, which may grant more
	Logger  *slog.Logger                     // gets a line at each change of state, and some failures
	Changed func(key string, from, to State) // called at each change of state; may be nil
	// Why returns what the error of a call to etcd does not say itself, nil for nothing. It may be nil.
	Why func(error) error
	// Reconnected has notify called whenever the connection to etcd is back, until stop is called. It may be
	// nil.
	Reconnected func(notify func()) (stop func())
}

// Session keeps entries on one lease. The lease is granted when the first entry needs it and revoked with the
// last. Its methods are safe for concurrent use.
type Session struct {
	client *clientv3.Client
	opts   Options

	ctx    context.Context
	cancel context.CancelFunc
	wake   chan struct{}
	done   chan struct{} // closed when run has ended, and all that it started
	wg     sync.WaitGroup

	mu       sync.Mutex
	core     *core
	started  bool  // run has been started
	closeErr error // of the first Close
	watches  map[string]*watch

	renewals map[clientv3.LeaseID]*renewal

	telling sync.Mutex // serialises the calls of Item.Elect
}

// New makes a session. It does no I/O and starts nothing.
func New(client *clientv3.Client, opts Options) *Session {
	ctx, cancel := context.WithCancel(context.Background())
	return &Session{
		client: client, opts: opts, ctx: ctx, cancel: cancel,
		wake: make(chan struct{}, 1), done: make(chan struct{}),
		core: newCore(opts.TTL, jitter), watches: make(map[string]*watch), renewals: make(map[clientv3.LeaseID]*renewal),
	}
}

// Start puts an entry in etcd in the background, or only remembers it if pause is set. A key that is there
// already is taken over, for this process is the newer one.
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
		go s.run()
	}
	s.poke()
	return &Handle{s, e}, nil
}

// Close takes everything out of etcd by revoking the lease, and returns when that is done. When ctx ends or 5 s
// have passed before, the error names the lease that is left to expire. The session has stopped in either case.
func (s *Session) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, CloseTimeout)
	defer cancel()
	s.mu.Lock()
	s.core.close(time.Now())
	started := s.started
	s.poke()
	s.mu.Unlock()
	s.tellCandidates()
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
	why := s.explained(context.Cause(ctx))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closeErr == nil {
		s.closeErr = s.core.leftover(why)
	}
	return s.closeErr
}

// poke has run ask the core again. It never blocks.
func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// explained returns the error of a call to etcd with what it does not say itself. It must be called without
// mu held, nil for nil.
func (s *Session) explained(err error) error {
	if err == nil || s.opts.Why == nil {
		return err
	}
	return etcderr.With(err, s.opts.Why(err))
}

// jitter takes up to a quarter off d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
