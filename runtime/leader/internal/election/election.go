package election

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/bounded"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/extension"
)

// ErrEnded is the cause of a context that ended because the leadership did. The
// context of a stream ends earlier, with the same cause, when the leader begins
// to resign.
var ErrEnded = errors.New("etcd: this instance no longer leads")

// ErrClosed is the error of a closed election.
var ErrClosed = errors.New(
	"etcd: the instance no longer stands for election: its registration is closed")

// errDrained is the reason of a resignation because of a drain.
var errDrained = errors.New("the live config drains it, and another instance can lead")

// viewer is the part of a Candidacy that an Election uses. View and Err must not
// block, nor call the election.
type viewer interface {
	View() View
	Err() error
	Read(notify func()) (stop func())
}

// Config configures an Election.
type Config struct {
	*extension.Host
	Prefix   string // the prefix of the candidates' etcd keys
	Instance string // the id of the instance
	TTL      time.Duration

	// how long a leader that resigns waits for unary calls, up to maxGrace
	Grace time.Duration

	Candidates viewer // a Candidacy, except in tests

	// called when the term has changed; it must neither block nor call the
	// election
	TermChanged func()
}

// Election is an instance's part in an election. Its methods are safe for
// concurrent use.
type Election struct {
	calls

	ctx    context.Context // for calls to etcd
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	stop   func()        // stops reading the candidates
	gone   chan struct{} // closed after End, when nothing is left in etcd
	leave  func()        // closes gone

	mu    sync.Mutex
	core  core
	timer *time.Timer
	ended bool // End or Close was called

	// the token of the term at the last event, 0 without a term; does not
	// change in doubt
	token int64

	doubted  bool                   // the core was in doubt at the last event
	contexts map[uint64]termContext // the contexts of the term
	lastID   uint64                 // the last key in contexts

	// why the last attempt to stand failed, nil if it succeeded
	failed error

	// why the candidates cannot be followed now, nil while they are
	unread error

	closeErr   error  // the error of the first Close
	lastLogged string // why the instance does not stand, as last logged
}

// termContext is a context that ends with the term.
type termContext struct {
	end    func()
	stream bool // it ends when the leader begins to resign
}

// New returns the election of an instance. It does no I/O. Registered begins
// and ends the candidacy, until End ends it for good.
func New(cfg Config) *Election {
	e := &Election{
		calls:    calls(cfg),
		gone:     make(chan struct{}),
		contexts: make(map[uint64]termContext),
	}

	e.core.grace = min(cfg.Grace, maxGrace)
	e.leave = sync.OnceFunc(func() {
		close(e.gone)
		e.tasks.Go(e.stop) // it may wait for a notification under way
	})

	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.stop = cfg.Candidates.Read(e.hear)

	return e
}

// Registered makes the instance a candidate while its entry is registered.
func (e *Election) Registered(is bool) {
	e.event(func(now time.Time) effects { return e.core.want(now, is && !e.ended) })
}

// hear handles a notification. It reads the candidates with mu held, so that no
// view is handled after a newer one.
func (e *Election) hear() {
	e.event(func(now time.Time) effects {
		e.unread = e.Candidates.Err()
		return e.core.hear(now, e.Candidates.View())
	})
}

// event passes an event to the core and applies the effects. A leadership ends
// before the revocation of its lease is sent.
func (e *Election) event(event func(now time.Time) effects) {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.ctx.Err() != nil {
		return
	}

	now := time.Now()
	do := event(now)
	doubted := e.doubted

	e.doubted = e.core.inDoubt(now)
	if !e.doubted {
		e.turn(e.core.term(now).Token)

		if doubted {
			// for those who asked during the doubt, although the term may be
			// the same
			e.TermChanged()
		}
	}

	if do.cut {
		e.endContexts(func(c termContext) bool { return c.stream })
	}

	e.call(do)
	e.log(do)

	if e.ended && e.core.phase == absent {
		e.leave()
	}

	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}

	if !do.wake.IsZero() {
		e.timer = time.AfterFunc(time.Until(do.wake), func() { e.event(e.core.tick) })
	}
}

// call makes the calls to etcd of an event's effects. It must be called with mu
// held.
func (e *Election) call(do effects) {
	number := e.core.number
	if do.stand > 0 {
		e.tasks.Go(func() {
			o := e.calls.stand(e.ctx, do.stand)
			e.event(func(now time.Time) effects {
				e.failed = o.err
				return e.core.stood(now, number, o)
			})
		})
	}

	if lease := do.renew; lease != clientv3.NoLease {
		key := e.core.own.Key
		e.tasks.Go(func() {
			o := e.calls.renew(e.ctx, lease)
			e.event(func(now time.Time) effects { return e.core.renewed(now, number, o) })

			if o.err == nil && !o.gone && e.calls.deleted(e.ctx, key, lease) {
				e.event(func(now time.Time) effects {
					return e.core.renewed(now, number, outcome{gone: true})
				})
			}
		})
	}

	if lease := do.revoke; lease != clientv3.NoLease {
		e.tasks.Go(func() {
			gone := e.calls.revoke(e.ctx, lease)
			e.event(func(now time.Time) effects {
				return e.core.revoked(now, number, gone)
			})
		})
	}
}

// log logs the findings of an event, in the background: the logger may be slow,
// or call the registry. It must be called with mu held.
func (e *Election) log(do effects) {
	if do.restoredFrom != 0 {
		e.line(slog.LevelError,
			"etcd was restored from a backup, or wiped, and repeats leaders' tokens: tell each store that checks them",
			"seen", do.restoredFrom, "created", e.core.own.Created)
	}

	why := e.why()
	text := ""
	if why != nil {
		text = why.Error()
	}

	if (text == "") == (e.lastLogged == "") || !e.core.wanted || e.ended {
		return
	}

	switch e.lastLogged = text; {
	case why == nil:
		e.line(slog.LevelInfo, "the instance stands for election again")
	case errors.Is(why, errDrained):
		e.line(slog.LevelInfo, "the instance does not stand for election", "error", why)
	default:
		e.line(slog.LevelWarn, "the instance does not stand for election", "error", why)
	}
}

func (e *Election) line(level slog.Level, text string, args ...any) {
	e.tasks.Go(func() {
		e.Logger.Log(context.Background(), level, text,
			append(args, "candidates", e.Prefix)...)
	})
}

// why returns why the instance does not stand although it should. It returns nil
// if the instance stands, may stand soon, or should not stand. It must be called
// with mu held.
func (e *Election) why() error {
	switch {
	case !e.core.wanted:
		return nil
	case e.core.blind:
		return fmt.Errorf("its candidates, under %q, cannot be read: %w", e.Prefix,
			e.unread)
	case e.core.view.Yields:
		return errDrained
	}

	return e.failed
}

// turn ends the present term and, if token is not 0, begins the term with
// token. It must be called with mu held.
func (e *Election) turn(token int64) {
	if token == e.token {
		return
	}

	e.endContexts(func(termContext) bool { return true })
	e.token = token
	e.TermChanged()
}

// endContexts ends some contexts of the term. It must be called with mu held.
func (e *Election) endContexts(which func(termContext) bool) {
	maps.DeleteFunc(e.contexts, func(_ uint64, c termContext) bool {
		ends := which(c)
		if ends {
			c.end()
		}

		return ends
	})
}

// Term returns the leadership now, the zero value if the instance does not
// lead, and ErrClosed once the election is closed.
func (e *Election) Term() (term Term, err error) {
	e.mu.Lock()
	term = e.core.term(time.Now())
	ended := e.ended && term == (Term{})
	late := term.Token != e.token
	e.mu.Unlock()

	switch {
	case ended:
		return Term{}, ErrClosed
	case late: // the term has ended, and the timer is late
		e.event(e.core.tick)
	}

	return term, nil
}

// Err returns why the instance cannot lead, or why its leadership is unknown,
// nil otherwise.
func (e *Election) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()

	if e.ended {
		return nil
	}

	if err := e.why(); err != nil && !errors.Is(err, errDrained) {
		return fmt.Errorf("the instance does not stand for election: %w", err)
	}

	if e.unread != nil {
		return fmt.Errorf("it is not known whether the instance leads: the candidates under %q cannot be read: %w",
			e.Prefix, e.unread)
	}

	return nil
}

// Lead returns a context that ends with parent or with the leadership, in the
// latter case with the cause ErrEnded. ok is false if the instance does not
// lead with token, or resigns.
func (e *Election) Lead(
	parent context.Context,
	token int64,
) (ctx context.Context, done context.CancelFunc, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()

	if !e.core.enter(time.Now(), token, false) {
		return nil, nil, false
	}

	ctx, done = e.inTerm(parent, false)

	return ctx, done, true
}

// inTerm returns a context that ends with parent or with the present term, in
// the latter case with the cause ErrEnded. It must be called with mu held.
func (e *Election) inTerm(
	parent context.Context,
	stream bool,
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	e.lastID++
	id := e.lastID
	e.contexts[id] = termContext{func() { cancel(ErrEnded) }, stream}
	return ctx, func() {
		cancel(nil)
		e.mu.Lock()
		defer e.mu.Unlock()

		delete(e.contexts, id)
	}
}

// exitKey is the key of the function that Exit calls, for the election with the
// candidates' prefix.
type exitKey struct{ prefix string }

// Exit makes a leader that resigns stop waiting for the call of ctx, whose handler
// itself waits for the end of the leadership. prefix is the prefix of the
// candidates.
func Exit(ctx context.Context, prefix string) {
	if exit, ok := ctx.Value(exitKey{prefix}).(func()); ok {
		exit()
	}
}

// Enter does for a call what Lead does for a task. parent is the call's context. A
// leader that resigns refuses further calls, and ends the contexts of streams at
// once. It waits, for at most the grace, until each unary call is done or its
// context has ended. In the latter case, the caller no longer waits for a reply.
func (e *Election) Enter(
	parent context.Context,
	token int64,
	unary bool,
) (ctx context.Context, done context.CancelFunc, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()

	if !e.core.enter(time.Now(), token, unary) {
		return nil, nil, false
	}

	ctx, done = e.inTerm(parent, !unary)
	if !unary {
		return ctx, done, true
	}

	number := e.core.number
	end := done
	exit := sync.OnceFunc(func() {
		e.event(func(now time.Time) effects { return e.core.exit(now, number) })
	})
	stop := context.AfterFunc(parent, exit)

	exitIfResigning := func() {
		e.mu.Lock()
		resigns := !e.core.endAt.IsZero()
		e.mu.Unlock()

		if resigns {
			exit()
		}
	}

	done = func() {
		end()
		stop()
		exit()
	}

	return context.WithValue(ctx, exitKey{e.Prefix}, exitIfResigning), done, true
}

// Resign ends the leadership with token, and returns when it has ended. It
// waits for calls as Enter says, but not for one whose handler calls Resign
// with its context. If ctx ends first, Resign ends the leadership at once, and
// returns an error. The instance stands again as the last candidate.
func (e *Election) Resign(ctx context.Context, token int64) error {
	e.mu.Lock()
	if token == 0 || token != e.token {
		e.mu.Unlock()

		return nil
	}

	term, done := e.inTerm(context.WithoutCancel(ctx), false)
	e.mu.Unlock()

	defer done()

	e.event(func(now time.Time) effects {
		return e.core.resign(now, token, e.core.grace)
	})
	Exit(ctx, e.Prefix)
	e.mu.Lock()
	ended := e.token != token
	e.mu.Unlock()

	if ended {
		return nil
	}

	select {
	case <-term.Done():
	case <-ctx.Done():
		// of a stream, which has ended already
		if errors.Is(context.Cause(ctx), ErrEnded) {
			<-term.Done()
		}
	}

	if term.Err() == nil {
		e.event(func(now time.Time) effects { return e.core.resign(now, token, 0) })
		return fmt.Errorf("calls for the leader were under way when it resigned: %w",
			context.Cause(ctx))
	}

	return nil
}

// End ends the leadership for good, as Resign does, and removes the candidate
// from etcd. It does not wait. Wait returns when that is done.
func (e *Election) End() {
	e.finish(func(now time.Time) effects { return e.core.want(now, false) })
}

// finish ends the candidacy for good by an event.
func (e *Election) finish(event func(now time.Time) effects) {
	e.event(func(now time.Time) effects {
		e.ended = true
		return event(now)
	})

	e.TermChanged() // wakes those who wait, even if the instance did not lead
}

// Wait returns after End once the candidate is out of etcd, or Close has given
// up. It returns an error if ctx ends first.
func (e *Election) Wait(ctx context.Context) error {
	if !bounded.Wait(ctx, e.gone) {
		return fmt.Errorf(
			"a candidate under %q may stay in etcd until its lease expires: %w", e.Prefix,
			context.Cause(ctx))
	}

	return nil
}

// Close is End, but does not wait for calls. It returns when the candidate is
// out of etcd. If ctx ends first, Close gives up and returns an error.
func (e *Election) Close(ctx context.Context) error {
	e.finish(e.core.end)
	err := e.Wait(ctx)
	e.mu.Lock()
	e.closeErr = cmp.Or(e.closeErr, err)
	e.leave()
	e.cancel() // no event counts any more
	err = e.closeErr
	e.mu.Unlock()

	bounded.Run(ctx, e.tasks.Wait)

	return err
}
