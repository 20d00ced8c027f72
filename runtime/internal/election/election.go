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

// askTimeout bounds a question to etcd.
const askTimeout = 2 * time.Second

// pageSize is how many entries a question reads at a time.
const pageSize = 256

// ErrEnded is the cause of the end of a context that [Election.Lead] returned, when the leadership has ended.
var ErrEnded = errors.New("etcd: this instance no longer leads")

// ErrClosed says that the instance does not stand for election any more.
var ErrClosed = errors.New("etcd: the instance stands for election no more: its registration is closed")

// Candidates tells of the candidates for one service key.
type Candidates interface {
	// First returns the first candidate.
	First() First
	// Err returns why the candidates cannot be followed now, nil while they are.
	Err() error
	// Read has notify called after each change until stop is called. notify must not block.
	Read(notify func()) (stop func())
}

// Election is one candidate's. Its methods are safe for concurrent use.
type Election struct {
	client     *clientv3.Client
	logger     *slog.Logger
	prefix     string // of the keys of all candidates
	candidates Candidates

	ctx    context.Context // for questions to etcd; ends with Close
	cancel context.CancelFunc
	asking sync.WaitGroup
	stop   func() // ends reading candidates

	mu      sync.Mutex
	core    core
	timer   *time.Timer
	closed  bool
	changed chan struct{}     // closed at the next change of the term
	term    Term              // as of the last event
	leads   map[uint64]func() // end the contexts of the term
	given   uint64            // the contexts so far
	askErr  error             // of the last question that counted
}

// New returns the election of a candidate among those under a prefix. It does no I/O. Hand its Stood to the lease
// session, and close it when the candidate is gone.
func New(client *clientv3.Client, logger *slog.Logger, prefix string, candidates Candidates) *Election {
	e := &Election{client: client, logger: logger, prefix: prefix, candidates: candidates, changed: make(chan struct{}), leads: make(map[uint64]func())}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	e.stop = candidates.Read(e.heard)
	return e
}

// Stood takes in what is known of the candidate. It does not block.
func (e *Election) Stood(own lease.Candidacy) {
	e.event(func(now time.Time) effects { return e.core.stood(now, own) })
}

func (e *Election) heard() {
	first := e.candidates.First()
	e.event(func(now time.Time) effects { return e.core.heard(now, first) })
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
	if do.warn != (First{}) {
		e.logger.Warn("etcd has another first candidate than its watch tells of", "key", do.warn.Key, "created", do.warn.Created)
	}
	if created := e.core.own.Created; do.ask != 0 {
		e.asking.Go(func() { e.ask(do.ask, created) })
	}
	e.wake(do.wake)
}

// turn takes in the term in force. It must be called with mu held.
func (e *Election) turn(term Term) {
	if term.Token != e.term.Token {
		for _, end := range e.leads {
			end()
		}
		clear(e.leads)
		close(e.changed)
		e.changed = make(chan struct{})
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

// ask asks etcd which candidate is the first, for an own one that was created at a revision.
func (e *Election) ask(question uint64, created int64) {
	ctx, cancel := context.WithTimeout(e.ctx, askTimeout)
	defer cancel()
	first, err := e.first(ctx, created)
	e.event(func(now time.Time) effects {
		if question == e.core.asking {
			e.askErr = err
		}
		return e.core.answered(now, question, first, err == nil)
	})
}

// first reads the candidates that were created at a revision or before, and returns the one that precedes all others.
// Entries that are none are skipped: if one becomes a candidate later, no process leads with it, for the name of a
// candidate is random.
func (e *Election) first(ctx context.Context, created int64) (First, error) {
	var first First
	from, end := e.prefix, clientv3.GetPrefixRangeEnd(e.prefix)
	for {
		resp, err := e.client.KV.Get(ctx, from, clientv3.WithRange(end), clientv3.WithMaxCreateRev(created), clientv3.WithLimit(pageSize))
		if err != nil {
			return First{}, err
		}
		first = earliest(first, e.prefix, resp.Kvs)
		if len(resp.Kvs) < pageSize {
			return first, nil
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
}

// Term returns the leadership now, the zero value if the instance does not lead. It also returns a channel that is
// closed at the next change of the token, and ErrClosed once the election is closed.
func (e *Election) Term() (term Term, changed <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return Term{}, e.changed, ErrClosed
	}
	// After a jump of the wall clock and back they may differ, and nobody was told of a change.
	if term = e.core.term(time.Now()); term.Token != e.term.Token {
		term = Term{}
	}
	return term, e.changed, nil
}

// Err returns why the instance cannot learn whether it leads, nil if it can.
func (e *Election) Err() error {
	err := e.candidates.Err()
	e.mu.Lock()
	defer e.mu.Unlock()
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

// Close ends the leadership, and everything that the election has started.
func (e *Election) Close() {
	e.mu.Lock()
	e.closed = true
	e.wake(time.Time{})
	e.turn(Term{})
	select {
	case <-e.changed:
	default:
		close(e.changed) // for those who wait, also if the instance did not lead
	}
	e.mu.Unlock()
	e.stop()
	e.cancel()
	e.asking.Wait()
}
