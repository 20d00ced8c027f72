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
	TTL     time.Duration                    // requested; etcd may grant more
	Logger  *slog.Logger                     // gets a line at each change of state, and some failures
	Changed func(key string, from, to State) // called at each change of state; may be nil
	// Why explains the error of a call to etcd, or returns nil. It may be nil.
	Why func(error) error
	// Reconnected calls notify whenever the connection to etcd is back, until stop is called. It may be
	// nil.
	Reconnected func(notify func()) (stop func())
	Streams     *listwatch.Streams // of the client, see [listwatch.Config]; nil: the session has its own
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
	done     chan struct{} // closed when run and all goroutines that it started have ended
	wg       sync.WaitGroup
	lastCall time.Duration // of the last call; run's

	mu       sync.Mutex
	core     *core
	started  bool  // run has been started
	closeErr error // of the first Close
	watches  map[string]*watch
	renewals map[clientv3.LeaseID]context.CancelFunc

	reporting sync.Mutex // keeps log lines in the order of the changes
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

// poke makes run call the core again. It never blocks.
func (s *Session) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// reconnected checks the keys and verifies their watches at once: the connection may lead to an etcd that was restored
// from a backup.
func (s *Session) reconnected() {
	s.group.Reconnected()
	s.locked(func(c *core, now time.Time) { c.checkSoon(now) })
	s.poke()
}

// explained adds the explanation of Options.Why to the error of a call to etcd; nil for nil. It must be called without
// mu held.
func (s *Session) explained(err error) error {
	if err == nil || s.opts.Why == nil {
		return err
	}
	return etcderr.With(err, s.opts.Why(err))
}

// jitter takes up to a quarter off d.
func jitter(d time.Duration) time.Duration { return d - rand.N(d/4+1) }
