package listwatch

import (
	"cmp"
	"context"
	"fmt"
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

	mu       sync.Mutex
	watchers map[*watcher[T]]struct{}
}

// NewGroup returns a group that follows nothing yet and does no I/O.
func NewGroup[T any](cfg Config[T]) *Group[T] {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group[T]{cfg: cfg, ctx: ctx, cancel: cancel, watchers: make(map[*watcher[T]]struct{})}
}

// Follow passes the updates of a range to sink until stop is called. It starts a goroutine, which alone calls
// sink, and does no I/O itself. The first update is the outcome of the first list, or the first error.
//
// stop returns at once: it does not wait for a call of sink under way, and it may be called from
// sink, and more than once. Nothing is followed after Close.
func (g *Group[T]) Follow(spec Spec[T], sink func(Update[T])) (stop func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(g.ctx)
	w := &watcher[T]{cfg: &g.cfg, spec: spec, sink: sink, doubt: make(chan struct{}, 1), conn: make(chan struct{}, 1), core: newCore(spec, &g.cfg)}
	g.watchers[w] = struct{}{}
	g.running.Go(func() { w.run(ctx) })
	return func() {
		cancel()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.watchers, w)
	}
}

// ConnChanged reports that the connection to etcd is back or, if Config.Down returns an error, lost. The etcd client hides both.
// While the connection is lost, every range has that error, and makes no calls. Once the connection is back, etcd may have been
// replaced: a watched range is compared with a list, and a range that pauses before a list is listed at once.
func (g *Group[T]) ConnChanged() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w := range g.watchers {
		Signal(w.conn)
	}
}

// Close ends all watchers, and waits for their goroutines. It does not wait for etcd, nor for goroutines that are opening watches.
func (g *Group[T]) Close() {
	g.mu.Lock()
	g.cancel()
	clear(g.watchers)
	g.mu.Unlock()
	g.running.Wait()
}

// watcher is the shell of a core: it follows one range in its own goroutine.
type watcher[T any] struct {
	cfg   *Config[T]
	spec  Spec[T]
	sink  func(Update[T])
	doubt chan struct{} // a signal that another range doubts etcd
	conn  chan struct{} // a signal that the connection to etcd is back or lost

	// Only run and the methods that it calls use these fields.
	core    *core[T]
	timer   *time.Timer
	answers clientv3.WatchChan
	cancel  context.CancelFunc // closes the watch
	stream  *stream            // the stream of the watch, nil without a watch
}

// run lists and follows the range until ctx ends.
func (w *watcher[T]) run(ctx context.Context) {
	w.timer = time.NewTimer(0)
	defer w.timer.Stop()
	defer w.closeWatch()
	defer w.cfg.Streams.join(w.doubt)()
	for e := (event{}); ctx.Err() == nil; {
		now := time.Now()
		next := w.core.step(e, now)
		w.carryOut(ctx, next.effects)
		if next.update != nil && ctx.Err() == nil {
			w.sink(*next.update)
			w.core.published(time.Since(now), time.Now())
		}
		e = w.do(ctx, next.action)
		e.ranges = w.cfg.Streams.following()
		if e.err != nil && w.cfg.Why != nil {
			e.why = w.cfg.Why(e.err)
		}
	}
}

func (w *watcher[T]) carryOut(ctx context.Context, e effects[T]) {
	if e.closeWatch {
		if w.stream != nil {
			w.stream.retire()
		}
		w.closeWatch()
	}
	if e.doubt {
		w.cfg.Streams.doubt()
	}
	if e.relisted != "" && w.cfg.Hooks.Relisted != nil && ctx.Err() == nil {
		w.cfg.Hooks.Relisted(e.relisted)
	}
	for _, key := range e.malformed {
		if w.cfg.Hooks.Malformed != nil {
			w.cfg.Hooks.Malformed(key)
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

// do makes a call and returns its outcome. It returns early when ctx ends.
func (w *watcher[T]) do(ctx context.Context, a action) event {
	switch a.call {
	case callList, callVerify:
		return w.read(ctx, a, a.page.opts(w.spec.Range)...)
	case callListLocal:
		return w.read(ctx, a, append(a.page.opts(w.spec.Range), clientv3.WithSerializable())...)
	case callProbe:
		return w.probe(ctx, a)
	case callWatch:
		return w.openWatch(ctx, a)
	case callWait:
		return w.wait(ctx, time.Until(a.until), w.answers)
	default:
		return w.wait(ctx, backoff.Jitter(a.timeout), nil)
	}
}

// read reads keys of the range. It waits for a connection that is being made, and then for etcd, each within the action's timeout.
func (w *watcher[T]) read(ctx context.Context, a action, opts ...clientv3.OpOption) event {
	connecting, stop := context.WithTimeout(ctx, a.timeout)
	defer stop()
	if !w.cfg.Streams.connected(connecting) {
		return event{err: connecting.Err()}
	}
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	resp, err := w.cfg.Client.Get(ctx, cmp.Or(a.page.from, w.spec.Range.From), opts...)
	return event{read: resp, err: err}
}

// probe reads the number of keys and the key changed last. Any other event ends the probe, and becomes its outcome.
func (w *watcher[T]) probe(ctx context.Context, a action) event {
	ctx, cancel := context.WithCancel(ctx)
	meanwhile := make(chan event, 1)
	go func() {
		meanwhile <- w.wait(ctx, 2*a.timeout, w.answers)
		cancel()
	}()
	var newest []clientv3.OpOption // a range of one key is read with its value
	if w.spec.Range.End != "" {
		newest = []clientv3.OpOption{clientv3.WithLimit(1), clientv3.WithKeysOnly(), clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend)}
	}
	probed := w.read(ctx, a, w.spec.Range.opts(newest...)...)
	cancel()
	if e := <-meanwhile; e != (event{}) {
		return e
	}
	return probed
}

// openWatch opens the watch once no other watch is being opened on the same stream. The etcd client then blocks
// until etcd has answered, at most for the timeout. If ctx ends first, another goroutine still opens the watch
// and then closes it: the etcd client keeps the stream of a watch that is closed before it is open.
func (w *watcher[T]) openWatch(ctx context.Context, a action) event {
	stream := w.cfg.Streams.open(ctx, w.conn)
	if stream == nil {
		return w.connChanged()
	}
	watchCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	overdue := time.AfterFunc(a.timeout, cancel)
	answers := make(chan clientv3.WatchChan)
	go func() {
		opts := w.spec.Range.opts(clientv3.WithRev(a.revision), clientv3.WithCreatedNotify(), clientv3.WithProgressNotify())
		select {
		case answers <- w.cfg.Client.Watch(stream.context(watchCtx), w.spec.Range.From, opts...):
		case <-ctx.Done():
			overdue.Stop()
			cancel()
			stream.opened()
		}
	}()
	select {
	case w.answers = <-answers:
	case <-ctx.Done():
		return event{err: ctx.Err()}
	}
	defer stream.opened()
	w.stream, w.cancel = stream, cancel
	if !overdue.Stop() {
		stream.retire() // before stream.opened lets the next watch in
		return event{err: fmt.Errorf("%w within %v", errNotOpened, a.timeout)}
	}
	return event{}
}

// connChanged returns the event of the signal conn.
func (w *watcher[T]) connChanged() event {
	if w.cfg.Down != nil {
		if down := w.cfg.Down(); down != nil {
			return event{lost: down}
		}
	}
	return event{back: true}
}

func (w *watcher[T]) closeWatch() {
	if w.stream == nil {
		return
	}
	w.cancel()
	w.cancel, w.answers, w.stream = nil, nil, nil
}

func (w *watcher[T]) wait(ctx context.Context, d time.Duration, answers clientv3.WatchChan) event {
	w.timer.Reset(d)
	doubt := w.doubt
	if answers == nil {
		doubt = nil // a doubt does not shorten a pause
	}
	select {
	case answer, ok := <-answers:
		if !ok {
			return event{err: errClosed}
		}
		return event{answer: &answer}
	case <-doubt:
		return event{doubt: true}
	case <-w.conn:
		return w.connChanged()
	case <-w.timer.C:
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
