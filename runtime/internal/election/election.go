package election

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// ErrEnded is the cause of the end of a context that [Election.Lead] returned, when the leadership has ended.
var ErrEnded = errors.New("etcd: this instance no longer leads")

// ErrClosed says that the instance does not stand for election any more.
var ErrClosed = errors.New("etcd: the instance stands for election no more: its registration is closed")

// errDrained and errResigned say why an instance gave the leadership up.
var (
	errDrained  = errors.New("the live config drains it, and another instance can lead")
	errResigned = errors.New("it has resigned, and stands again once its candidate is gone")
)

// Candidates tells of the candidates for one service key.
type Candidates interface {
	// View returns what is known of them. It must not block.
	View() View
	// Err returns why the candidates cannot be followed now, nil while they are.
	Err() error
	// Read has notify called after each change until stop is called. notify must not block.
	Read(notify func()) (stop func())
}

// Election is one candidate's. Its methods are safe for concurrent use.
type Election struct {
	question
	logger     *slog.Logger
	candidates Candidates
	turned     func() // called when the term has changed, with mu held

	ctx    context.Context // for questions to etcd; ends with Close
	cancel context.CancelFunc
	asking sync.WaitGroup
	stop   func() // ends reading candidates

	mu     sync.Mutex
	core   core
	timer  *time.Timer
	closed bool
	aside  bool              // as of the last event
	term   Term              // as of the last event
	leads  map[uint64]func() // end the contexts of the term
	given  uint64            // the contexts so far
	calls  int               // unary calls under way that Enter let in
	idle   chan struct{}     // closed when calls is 0 again; nil before the first call
	shut   bool              // Finish was called in this term: Enter refuses calls
	askErr error             // of the last question that counted

	standing sync.Mutex        // serialises the calls of stand
	stand    func(stands bool) // nil: nobody is attached yet
	barred   bool              // stand was last called with false
}

// New returns the election of a candidate among those under a prefix. It does no I/O. turned is called when the instance
// begins to lead or ends, and must neither block nor call the election. Hand its Stood to the lease session, attach that,
// and close it when the candidate is gone.
func New(client *clientv3.Client, logger *slog.Logger, prefix string, candidates Candidates, turned func()) *Election {
	e := &Election{question: question{client.KV, prefix}, logger: logger, candidates: candidates, turned: turned, leads: make(map[uint64]func())}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.stop = candidates.Read(e.heard)
	return e
}

// Stood takes in what is known of the candidate. It does not block.
func (e *Election) Stood(own lease.Candidacy) {
	e.event(func(now time.Time) effects { return e.core.stood(now, own) })
}

func (e *Election) heard() {
	view := e.candidates.View()
	e.event(func(now time.Time) effects { return e.core.heard(now, view) })
}

// event feeds an event to the core and carries the effects out.
func (e *Election) event(event func(now time.Time) effects) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return
	}
	now := time.Now()
	do := event(now)
	e.turn(e.core.term(now))
	if own := e.core.own; do.warn != (First{}) || do.back != 0 {
		e.asking.Go(func() { e.log(do, own) }) // under no lock, neither of ours nor of who tells of the event
	}
	if refused := e.core.refused; do.ask != 0 {
		e.asking.Go(func() { e.ask(do.ask, refused) })
	}
	if aside := e.core.aside(); aside != e.aside {
		e.aside = aside
		e.asking.Go(e.settle)
	}
	e.wake(do.wake)
}

// log logs what is wrong in etcd, as the own candidate was then.
func (e *Election) log(do effects, own lease.Candidacy) {
	if do.warn != (First{}) {
		e.logger.Warn("etcd has another first candidate than its watch tells of", "key", do.warn.Key, "created", do.warn.Created)
	}
	if do.back != 0 {
		e.logger.Error("etcd was restored from a backup, or wiped, and gives leaders' tokens again: tell each store that checks them",
			"candidates", e.prefix, "seen", do.back, "created", own.Created)
	}
}

// turn takes in the term in force. It must be called with mu held.
func (e *Election) turn(term Term) {
	if term.Token != e.term.Token {
		for _, end := range e.leads {
			end()
		}
		clear(e.leads)
		e.shut = false
		e.turned()
	}
	e.term = term
}

func (e *Election) wake(at time.Time) {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	if !at.IsZero() {
		e.timer = time.AfterFunc(time.Until(at), func() { e.event(e.core.tick) })
	}
}

// ask asks etcd a question. refused says that etcd has refused the one before.
func (e *Election) ask(question uint64, refused bool) {
	a := e.question.ask(e.ctx, refused)
	e.event(func(now time.Time) effects {
		if question == e.core.asking {
			e.askErr = a.err
		}
		return e.core.answered(now, question, a)
	})
}

// Attach has stand called when the instance is not to stand for election, and when it is to again. It must not be called
// under a lock that stand or the logger's handler takes.
func (e *Election) Attach(stand func(stands bool)) {
	e.standing.Lock()
	e.stand = stand
	e.standing.Unlock()
	e.settle()
}

// settle has the candidate put or taken away as the core wants it.
func (e *Election) settle() {
	changed, why := e.standAsWanted()
	switch {
	case !changed:
	case why == nil:
		e.logger.Info("the instance stands for election again", "candidates", e.prefix)
	case errors.Is(why, errDrained), errors.Is(why, errResigned):
		e.logger.Info("the instance does not stand for election", "candidates", e.prefix, "error", why)
	default:
		e.logger.Warn("the instance does not stand for election", "candidates", e.prefix, "error", why)
	}
}

// standAsWanted calls stand if that has changed. why says why the instance is not to stand, nil if it is to.
func (e *Election) standAsWanted() (changed bool, why error) {
	e.standing.Lock()
	defer e.standing.Unlock()
	e.mu.Lock()
	why = e.why()
	e.mu.Unlock()
	if barred := why != nil; e.stand == nil || barred == e.barred {
		return false, nil
	}
	e.barred = why != nil
	e.stand(!e.barred)
	return true, why
}

// why returns why the instance is not to stand, nil if it is to. It must be called with mu held.
func (e *Election) why() error {
	switch {
	case e.closed || !e.core.aside():
		return nil
	case e.core.refused:
		return fmt.Errorf("its candidates, under %q, cannot be read: %w", e.prefix, e.askErr)
	case e.core.resigned != First{}:
		return errResigned
	}
	return errDrained
}

// Term returns the leadership now, the zero value if the instance does not lead, and ErrClosed once the election is closed.
func (e *Election) Term() (term Term, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return Term{}, ErrClosed
	}
	// By now it may have ended, be it for a while: who finds no term here waits to be told of the next.
	if term = e.core.term(time.Now()); term.Token != e.term.Token {
		e.turn(Term{})
	}
	return e.term, nil
}

// Err returns why the instance cannot learn whether it leads, nil if it can.
func (e *Election) Err() error {
	err := e.candidates.Err()
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.core.refused && !e.closed {
		return fmt.Errorf("the instance does not stand for election: %w", e.why())
	}
	if err == nil && e.core.unanswered() {
		err = e.askErr
	}
	if err == nil || e.closed {
		return nil
	}
	return fmt.Errorf("whether the instance leads is not known: read its candidates, under %q: %w", e.prefix, err)
}

// Lead returns a context that ends with parent or with the leadership, then with the cause ErrEnded. ok is false if the
// instance does not lead with that token.
func (e *Election) Lead(parent context.Context, token int64) (ctx context.Context, done context.CancelFunc, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lead(parent, token)
}

func (e *Election) lead(parent context.Context, token int64) (ctx context.Context, done context.CancelFunc, ok bool) {
	if e.closed || e.term.Token != token || e.core.term(time.Now()).Token != token {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancelCause(parent)
	e.given++
	n := e.given
	e.leads[n] = func() { cancel(ErrEnded) }
	return ctx, func() {
		cancel(nil)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.leads, n)
	}, true
}

// Enter is Lead for a call. It refuses calls once Finish was called. Finish waits for the unary ones.
func (e *Election) Enter(parent context.Context, token int64, unary bool) (ctx context.Context, done context.CancelFunc, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.shut {
		return nil, nil, false
	}
	ctx, end, ok := e.lead(parent, token)
	if !ok || !unary {
		return ctx, end, ok
	}
	if e.calls++; e.calls == 1 {
		e.idle = make(chan struct{})
	}
	return ctx, func() {
		end()
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.calls--; e.calls == 0 {
			close(e.idle)
		}
	}, true
}

// Finish has Enter refuse calls for the rest of the term, and waits until no unary call is under way. It returns an error if ctx
// ends before.
func (e *Election) Finish(ctx context.Context) error {
	e.mu.Lock()
	return e.finish(ctx)
}

// finish is Finish with mu held, which it frees.
func (e *Election) finish(ctx context.Context) error {
	e.shut = true
	n, idle := e.calls, e.idle
	e.mu.Unlock()
	if n == 0 {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("calls for the leader were under way when it resigned: %w", context.Cause(ctx))
	}
}

// Resign ends the leadership with a token, after Finish. The instance stands again behind all others. Of another leadership, which
// may have begun by then, it does nothing.
func (e *Election) Resign(ctx context.Context, token int64) error {
	e.mu.Lock()
	if e.term.Token != token {
		e.mu.Unlock()
		return nil
	}
	err := e.finish(ctx)
	e.event(func(now time.Time) effects { return e.core.resign(now, token) })
	return err
}

// Close ends the leadership, and everything that the election has started.
func (e *Election) Close() {
	e.mu.Lock()
	e.closed = true
	e.wake(time.Time{})
	e.turn(Term{})
	e.turned() // for those who wait, also if the instance did not lead
	e.mu.Unlock()
	e.stop()
	e.cancel()
	e.asking.Wait()
}
