// Package lease keeps a process's desired keys in etcd, on one lease that it
// renews. It puts lost or changed keys back.
//
// Package reconcile makes the decisions. This package carries them out:
//
//	session.go  the goroutine that makes the calls, and the log
//	calls.go    the calls to etcd, and the renewals
//	watch.go    the watches of the keys
//	handle.go   one entry, for its owner: changes, and waits for them
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
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/keepalive"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/login"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

var (
	// ErrClosed is the error of a session's methods after its Close.
	ErrClosed = errors.New("the registry is closed")

	// ErrSuperseded is the error of a wait for a SetPaused once a later
	// SetPaused has requested the opposite.
	ErrSuperseded = errors.New("a later call has requested the opposite")
)

type (
	// Item is one key of an entry and its value.
	Item = reconcile.Item

	// Status is the state of an entry at one moment.
	Status = reconcile.Status

	// State is the state of an entry.
	State = reconcile.State
)

// The states of an entry.
const (
	Initial     = reconcile.Initial
	Registering = reconcile.Registering
	Registered  = reconcile.Registered
	Lost        = reconcile.Lost
	Conflict    = reconcile.Conflict
	Paused      = reconcile.Paused
	Closed      = reconcile.Closed
)

// Options configure a Session.
type Options struct {
	TTL    time.Duration // requested; etcd may grant more
	Logger *slog.Logger  // gets a line at each change of state and at some failures

	// Changed is called after each change of an entry's state, in order.
	// now.Key is the service key. It may be nil.
	Changed func(from State, now Status)

	// Why explains the error of a call to etcd, or returns nil. It may be nil.
	Why func(error) error

	Conversation *listwatch.Conversation // the client's
	Login        *login.Login            // the client's; nil without a password
	Renewer      *keepalive.Renewer
}

// Session keeps entries on one lease. The lease is granted when the first entry
// needs it, and revoked when no entry needs it any more. The session's methods
// are safe for concurrent use.
type Session struct {
	client *clientv3.Client
	opts   Options
	group  *listwatch.Group[reconcile.KeyValue] // follows the keys of watches

	ctx     context.Context
	cancel  context.CancelFunc
	wake    chan struct{}
	granted chan reconcile.Answer // passes each lease that etcd grants

	// closed when run and all goroutines that it started have ended
	done chan struct{}

	wg sync.WaitGroup

	mu       sync.Mutex
	core     *reconcile.Core
	closeErr error // the error of the first Close
	watches  map[string]*watch

	// ends the call under way soon; nil without a call, and for a removal
	giveWay func()

	// calls renewLeases when a renewal is due; nil until run is started
	renewal *time.Timer

	// keeps log lines and calls of Options.Changed in the order of the changes
	reporting sync.Mutex
}

// New makes a session. It does no I/O and starts nothing.
func New(client *clientv3.Client, opts Options) *Session {
	ctx, cancel := context.WithCancel(context.Background())

	jitter := func(d time.Duration) time.Duration { return d - rand.N(d/4+1) }

	return &Session{
		client: client,
		opts:   opts,
		group: listwatch.NewGroup(listwatch.Config[reconcile.KeyValue]{
			Conversation: opts.Conversation,
			// checks find the changes that a failed watch misses
			Logger:          slog.New(slog.DiscardHandler),
			MaxRefusedPause: time.Minute,
		}),
		ctx:     ctx,
		cancel:  cancel,
		wake:    make(chan struct{}, 1),
		granted: make(chan reconcile.Answer),
		done:    make(chan struct{}),
		core:    reconcile.New(jitter),
		watches: make(map[string]*watch),
	}
}

// locked calls f with the lock held.
func (s *Session) locked(f func(c *reconcile.Core, now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()

	f(s.core, time.Now())
}

// poke makes run call the core again. It never blocks.
func (s *Session) poke() {
	listwatch.Signal(s.wake)
}

// Reconnected renews the leases at once, and checks the keys that are not
// watched: the connection may lead to an etcd that was restored from a backup.
func (s *Session) Reconnected() {
	s.locked(func(c *reconcile.Core, now time.Time) { c.OnReconnect(now) })
	s.poke()
}

// explained adds the explanation of Options.Why to the error of a call to etcd,
// which may be nil. mu must not be held.
func (s *Session) explained(err error) error {
	if err == nil || s.opts.Why == nil {
		return err
	}

	return etcderr.With(err, s.opts.Why(err))
}

// Start adds an entry under a service key, and puts it in etcd in the
// background unless pause is set. It takes over keys that another process
// holds: this process is the newer one.
func (s *Session) Start(service string, items []Item, pause bool) (*Handle, error) {
	s.mu.Lock()
	defer s.mu.Unlock()

	h := &Handle{s: s, service: service}
	h.e = s.core.Add(time.Now(), h, items, pause)
	if h.e == nil {
		return nil, ErrClosed
	}

	if s.renewal == nil {
		s.renewal = time.AfterFunc(time.Second, func() {
			s.mu.Lock()
			defer s.mu.Unlock()

			if s.ctx.Err() == nil {
				s.renewLeases()
			}
		})

		go s.run()
	}

	s.poke()
	s.wg.Go(s.report)

	return h, nil
}

// Close removes everything from etcd by revoking the lease, and returns when
// that is done. If ctx ends first, the error names the leases that remain until
// they expire. The session has stopped in either case.
func (s *Session) Close(ctx context.Context) error {
	if !s.close() {
		return nil
	}

	// Wait gives an etcd that answers time for the revocation, even if ctx has
	// already ended.
	if !bounded.Wait(ctx, s.done) {
		s.cancel()
		bounded.Wait(ctx, s.done)
	}

	why := s.explained(context.Cause(ctx))
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.closeErr == nil {
		s.closeErr = s.core.Leftover(why)
	}

	return s.closeErr
}

// Finish is Close, except that the session keeps closing if ctx ends first. It
// returns when everything is out of etcd, or when a call of Close has given up.
func (s *Session) Finish(ctx context.Context) error {
	if !s.close() {
		return nil
	}

	if !bounded.Wait(ctx, s.done) {
		return fmt.Errorf(
			"the lease is possibly still alive, because revoking it did not finish: %w",
			context.Cause(ctx))
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	return s.closeErr
}

// close begins to remove everything from etcd, and reports whether Close must
// wait.
func (s *Session) close() bool {
	s.mu.Lock()
	s.core.Close(time.Now())
	s.hurry()
	started := s.renewal != nil
	s.poke()
	s.mu.Unlock()

	if !started {
		s.cancel()
	}

	return started
}

// run makes the calls to etcd, one at a time, until the session ends.
func (s *Session) run() {
	defer close(s.done)
	defer s.wg.Wait()
	defer s.group.Close()

	timer := time.NewTimer(time.Second)
	defer timer.Stop()

	for {
		op, wait, finished := s.next()
		if finished || s.ctx.Err() != nil {
			s.end()
			return
		}

		if op != nil {
			s.do(op, wait)
			continue
		}

		timer.Reset(wait)

		// by the wall clock: the monotonic clock may stop while the machine
		// sleeps
		began := time.Now().Round(0)

		select {
		case <-s.wake:
		case a := <-s.granted:
			s.locked(func(c *reconcile.Core, now time.Time) {
				c.OnLateGrant(now, a.Lease, a.TTL)
			})

		case <-timer.C:
		case <-s.ctx.Done():
		}

		s.locked(func(c *reconcile.Core, now time.Time) {
			c.Waited(now, now.Round(0).Sub(began))
		})
	}
}

// end stops the renewals, and closes all entries.
func (s *Session) end() {
	s.mu.Lock()
	s.cancel() // with the lock held, so that no renewal begins later
	s.renewal.Stop()
	s.core.End(time.Now())
	s.mu.Unlock()

	s.report()
}

// next starts the renewals and watches that are due, and returns the next call
// or, without one, how long to wait. finished reports the session's end.
func (s *Session) next() (op reconcile.Op, wait time.Duration, finished bool) {
	s.mu.Lock()
	op, wait = s.core.Next(time.Now())
	finished = s.core.Finished()
	s.renewLeases()
	s.watchKeys()
	s.mu.Unlock()

	s.report()

	return op, wait, finished
}

// report passes the changes of state since the last report to Options.Changed,
// and logs them and the warnings.
func (s *Session) report() {
	s.reporting.Lock()
	defer s.reporting.Unlock()

	s.mu.Lock()
	changes, warnings := s.core.Take()
	s.mu.Unlock()

	for _, c := range changes {
		if s.opts.Changed != nil {
			now := c.Status
			now.Key = c.Owner.(*Handle).service
			s.opts.Changed(c.From, now)
		}

		if c.From != Initial {
			s.logChange(c)
		}
	}

	for _, c := range warnings {
		attrs := []any{"key", c.Key, "error", c.Err}
		if c.Others > 0 {
			attrs = append(attrs, "others", c.Others)
		}

		s.opts.Logger.Warn("etcd registration failing", attrs...)
	}
}

// logChange logs a change of state. A writer of the key may cause losses and
// conflicts without end, so their lines are limited. The end of a loss or
// conflict is logged only if its beginning was.
func (s *Session) logChange(c reconcile.Change) {
	h := c.Owner.(*Handle)
	level := slog.LevelInfo
	log := c.State != Registered || !h.unlogged
	missed := 0

	if c.State == Lost || c.State == Conflict {
		level = slog.LevelWarn
		log, missed = h.lines[c.State].Allow(time.Now())
	}

	h.unlogged = !log && c.State != Registered

	if !log {
		return
	}

	attrs := []any{"key", c.Key, "state", c.State.String(), "was", c.From.String()}
	if c.Lease != 0 {
		attrs = append(attrs, "lease", fmt.Sprintf("%x", c.Lease))
	}

	if c.Err != nil {
		attrs = append(attrs, "error", c.Err)
	}

	s.opts.Logger.Log(context.Background(), level, "etcd registration "+c.State.String(),
		loglimit.Attrs(missed, attrs...)...)
}
