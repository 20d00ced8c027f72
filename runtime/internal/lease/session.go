package lease

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

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
	Streams     *listwatch.Streams // the client's, see [listwatch.Config]; nil: the session has its own
}

// Session keeps entries on one lease. The lease is granted when the first entry needs it and revoked with the
// last. Its methods are safe for concurrent use.
type Session struct {
	client *clientv3.Client
	opts   Options
	group  *listwatch.Group[keyValue] // follows the keys of watches

	ctx      context.Context
	cancel   context.CancelFunc
	closed   chan struct{} // closed when Close is called
	wake     chan struct{}
	done     chan struct{} // closed when run has ended, and all that it started
	wg       sync.WaitGroup
	lastCall time.Duration // of the last call; run's

	mu       sync.Mutex
	core     *core
	started  bool  // run has been started
	closeErr error // of the first Close
	watches  map[string]*watch
	renewals map[clientv3.LeaseID]context.CancelFunc

	reporting sync.Mutex // keeps the lines of changes in their order
}

// New makes a session. It does no I/O and starts nothing.
func New(client *clientv3.Client, opts Options) *Session {
	ctx, cancel := context.WithCancel(context.Background())
	return &Session{
		client: client, opts: opts, group: newWatches(client, opts.Streams), ctx: ctx, cancel: cancel,
		closed: make(chan struct{}), wake: make(chan struct{}, 1), done: make(chan struct{}),
		core: newCore(opts.TTL, jitter), watches: make(map[string]*watch), renewals: make(map[clientv3.LeaseID]context.CancelFunc),
	}
}

// locked calls f with the lock held.
func (s *Session) locked(f func(c *core, now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.core, time.Now())
}

// poke has run ask the core again. It never blocks.
func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// reconnected checks the keys at once, and has their watches verified. The connection to etcd is back, and may lead to one
// that was restored from a backup.
func (s *Session) reconnected() {
	s.group.Reconnected()
	s.locked(func(c *core, now time.Time) { c.checkSoon(now) })
	s.poke()
}

// explained returns the error of a call to etcd with what it does not say itself. It must be called without
// mu held, nil for nil.
func (s *Session) explained(err error) error {
	if err == nil || s.opts.Why == nil {
		return err
	}
	return etcderr.With(err, s.opts.Why(err))
}

// shorten takes up to a quarter off d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
