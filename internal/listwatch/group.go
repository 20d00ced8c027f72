package listwatch

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

// Group follows ranges with one configuration. It is safe for concurrent use.
type Group[T any] struct {
	cfg     Config[T]
	ctx     context.Context // for all watchers; ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex // held by Follow and Close
}

// NewGroup returns a group that follows nothing yet and does no I/O.
func NewGroup[T any](cfg Config[T]) *Group[T] {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group[T]{cfg: cfg, ctx: ctx, cancel: cancel}
}

// Follow passes the updates of a range to sink until stop is called. decode
// decodes the entries of the range. Follow starts a goroutine, which alone
// calls sink, and does no I/O itself. The first update is the outcome of the
// first list, or the first error.
//
// stop returns at once: it does not wait for a call of sink under way, and it
// may be called from sink, and more than once. Nothing is followed after Close.
func (g *Group[T]) Follow(
	in Range,
	decode Decode[T],
	sink func(Update[T]),
) (stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()

	if g.ctx.Err() != nil {
		return func() {}
	}

	ctx, cancel := context.WithCancel(g.ctx)
	w := &watcher[T]{
		cfg:   &g.cfg,
		sink:  sink,
		asker: &asker{in: in, answer: make(chan event, 1), conn: make(chan struct{}, 1)},
		core:  newCore(in, decode, &g.cfg),
	}

	g.cfg.Conversation.join(w.asker)

	// not in run, so that ranges followed one after the other share a request
	first := w.core.step(event{}, time.Now()).action
	g.cfg.Conversation.want(w.asker, first.wish)

	g.running.Go(func() { w.run(ctx, first) })

	return cancel
}

// Close ends all watchers, and waits for their goroutines. It does not wait for
// etcd, nor for goroutines that are opening watches.
func (g *Group[T]) Close() {
	g.mu.Lock()
	g.cancel()
	g.mu.Unlock()

	g.running.Wait()
}

// watcher is the shell of a core: it follows one range in its own goroutine.
type watcher[T any] struct {
	cfg  *Config[T]
	sink func(Update[T])

	asker *asker // the range in the conversation

	// Only run and the methods that it calls use these fields.
	core *core[T]

	timer *time.Timer
	watch watch // the zero value while no watch is open

	// receives the watch once it is open; nil while none is being opened
	opening <-chan watch

	giveUp context.CancelFunc // ends the opening
}

// watch is a watch that is open or, with err, was not opened.
type watch struct {
	answers clientv3.WatchChan
	stream  *stream
	close   context.CancelFunc
	err     error
}

// run lists and follows the range until ctx ends.
func (w *watcher[T]) run(ctx context.Context, do action) {
	w.timer = time.NewTimer(0)
	defer w.timer.Stop()
	defer w.closeWatch()
	defer w.cfg.Conversation.leave(w.asker)

	for ctx.Err() == nil {
		e := w.wait(ctx, do)

		if ctx.Err() != nil {
			return
		}

		if e.err != nil {
			e.why = w.cfg.Conversation.Why(e.err)
		}

		now := time.Now()
		next := w.core.step(e, now)
		w.carryOut(ctx, next.effects)

		if next.update != nil {
			w.sink(*next.update)
			w.core.published(time.Since(now), time.Now())
		}

		do = next.action
		w.cfg.Conversation.want(w.asker, do.wish)
	}
}

func (w *watcher[T]) carryOut(ctx context.Context, e effects[T]) {
	if e.retire && w.watch.stream != nil {
		w.watch.stream.retire()
	}

	if e.closeWatch {
		w.closeWatch()
	}

	if e.open > 0 {
		w.openWatch(ctx, e.open)
	}

	if e.relisted != "" && w.cfg.Hooks.Relisted != nil {
		w.cfg.Hooks.Relisted(e.relisted)
	}

	for range e.malformed {
		if w.cfg.Hooks.Malformed != nil {
			w.cfg.Hooks.Malformed()
		}
	}

	for _, n := range e.notes {
		log := w.cfg.Logger.Info
		if n.warn {
			log = w.cfg.Logger.Warn
		}

		log(n.text, n.args...)
	}
}

// openWatch begins to open a watch, once no other watch is being opened. The
// etcd client then blocks until etcd has answered. A watch that is given up is
// closed only once it is open: the etcd client keeps the stream of a watch that
// is closed before.
func (w *watcher[T]) openWatch(ctx context.Context, revision int64) {
	ctx, w.giveUp = context.WithCancel(ctx)
	opened := make(chan watch)
	w.opening = opened

	go func() {
		stream := w.cfg.Conversation.streams.open(ctx)
		if stream == nil {
			return
		}

		opening := w.openOn(context.WithoutCancel(ctx), stream, revision)
		<-stream.of.opening

		select {
		case opened <- opening:
		case <-ctx.Done():
			opening.close()
		}
	}()
}

// openOn opens a watch on a stream. It gives up after maxTimeout. That is long,
// because a new stream may need a login. Until the watch is open, proofs check
// the range.
func (w *watcher[T]) openOn(ctx context.Context, stream *stream, revision int64) watch {
	in := w.asker.in
	opts := in.opts(clientv3.WithRev(revision), clientv3.WithCreatedNotify(),
		clientv3.WithProgressNotify())

	ctx, cancel := context.WithCancel(ctx)
	overdue := time.AfterFunc(maxTimeout, cancel)
	answers := w.cfg.Conversation.client.Watch(stream.context(ctx), in.From, opts...)

	var err error
	if !overdue.Stop() {
		stream.retire() // before the next watch is opened
		err = errNotOpened
	}

	return watch{answers, stream, cancel, err}
}

// closeWatch closes the watch, or gives up its opening.
func (w *watcher[T]) closeWatch() {
	if w.giveUp != nil {
		w.giveUp()
	}

	if w.watch.close != nil {
		w.watch.close()
	}

	w.giveUp = nil
	w.opening = nil
	w.watch = watch{}
}

// wait returns the next event that the action waits for. It returns early when
// ctx ends.
func (w *watcher[T]) wait(ctx context.Context, do action) event {
	if do.call == callPause {
		do.until = time.Now().Add(backoff.Jitter(do.pause))
	}

	w.timer.Reset(time.Until(do.until))

	var retired chan struct{}
	if w.watch.stream != nil {
		retired = w.watch.stream.retired
	}

	opening := w.opening
	answers := w.watch.answers

	if do.call != callWait {
		opening = nil
		answers = nil
	}

	select {
	case answer, ok := <-answers:
		if !ok {
			return event{err: errClosed}
		}

		return event{answer: &answer}

	case w.watch = <-opening:
		w.opening = nil
		return event{opened: w.watch.err == nil, err: w.watch.err}
	case <-retired:
		return event{back: true, moved: true}
	case e := <-w.asker.answer:
		return e
	case <-w.asker.conn:
		down := w.cfg.Conversation.Down()
		return event{lost: down, back: down == nil}

	case <-w.timer.C:
		if do.call == callList {
			return event{err: context.DeadlineExceeded, pending: true}
		}

	case <-ctx.Done():
	}

	return event{}
}

// Signal sends to a channel with a buffer of one, unless it is full.
func Signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
