package listwatch

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

const (
	// tries is how often etcd's revision is asked for before etcd counts as not answering.
	tries = 2
)

// watcher is the shell of a core: it follows one range, in a goroutine of its own.
type watcher[T any] struct {
	cfg  *Config[T]
	spec Spec[T]
	sink func(Update[T])
	lost chan struct{} // receives when the stream of the watch was lost
	back chan struct{} // receives when the connection to etcd is back

	// Used by run alone.
	core     *core[T]
	usual    Usual // costs of updates, in this goroutine
	timer    *time.Timer
	answers  clientv3.WatchChan
	cancel   context.CancelFunc // closes the watch; nil: there is none
	stream   *stream            // that the watch is on; nil: there is none
	follower *follower          // of the stream
}

func newWatcher[T any](cfg *Config[T], spec Spec[T], sink func(Update[T])) *watcher[T] {
	return &watcher[T]{
		cfg: cfg, spec: spec, sink: sink,
		lost: make(chan struct{}, 1), back: make(chan struct{}, 1),
		core: newCore(spec, cfg),
	}
}

// run lists and follows until ctx or the core ends.
func (w *watcher[T]) run(ctx context.Context) {
	w.timer = time.NewTimer(0)
	defer w.timer.Stop()
	defer w.closeWatch()
	var published time.Time
	for e := (event{}); ctx.Err() == nil; {
		now := time.Now()
		if w.spec.Spent != nil {
			w.core.charge(w.spec.Spent(), published)
		}
		do := w.core.step(e, now)
		w.carryOut(ctx, do.effects)
		if do.update != nil && ctx.Err() == nil {
			w.sink(*do.update)
			published = time.Now()
			w.core.charge(w.usual.Believe(published.Sub(now)), published)
		}
		e = w.do(ctx, do.action)
		e.roundTrip = w.cfg.Streams.roundTrip()
		if e.err != nil && w.cfg.Why != nil {
			e.why = w.cfg.Why(e.err)
		}
	}
}

func (w *watcher[T]) carryOut(ctx context.Context, e effects[T]) {
	if e.closeWatch {
		if w.stream != nil {
			w.cfg.Streams.retire(w.stream)
		}
		w.closeWatch()
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
		if n.warn {
			w.cfg.Logger.Warn(n.text, n.args...)
		} else {
			w.cfg.Logger.Info(n.text, n.args...)
		}
	}
}

// do makes a call and returns its outcome. It returns early when ctx ends.
func (w *watcher[T]) do(ctx context.Context, a action) event {
	switch a.call {
	case callList:
		return w.read(ctx, a, a.page.opts(w.spec.Range)...)
	case callVerify:
		return w.verify(ctx, a)
	case callListLocal:
		return w.read(ctx, a, append(a.page.opts(w.spec.Range), clientv3.WithSerializable())...)
	case callHead:
		return w.head(ctx, a)
	case callProbe:
		return w.probe(ctx, a)
	case callWatch:
		return w.openWatch(ctx, a)
	case callProgress:
		return w.requestProgress(ctx, a.bound)
	case callWait:
		return w.wait(ctx, time.Until(a.until), w.answers)
	default:
		return w.wait(ctx, backoff.Jitter(a.bound), nil)
	}
}

func (w *watcher[T]) read(ctx context.Context, a action, opts ...clientv3.OpOption) event {
	resp, err := w.get(ctx, a.bound, cmp.Or(a.page.from, w.spec.Range.From), opts...)
	return event{read: resp, err: err}
}

// get reads keys within a bound.
func (w *watcher[T]) get(ctx context.Context, bound time.Duration, from string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return within(ctx, w.cfg.Streams, bound, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return w.cfg.Client.Get(ctx, from, opts...)
	})
}

// within makes a call within a bound, and notes how long etcd took to answer.
func within[R any](ctx context.Context, s *Streams, bound time.Duration, call func(context.Context) (R, error)) (R, error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	asked := time.Now()
	resp, err := call(ctx)
	if err == nil {
		s.answered(time.Since(asked))
	}
	return resp, err
}

// verify reads a page beside the watch. If etcd's client resumes the watch, it does so at the revision after this answer's
// at the latest.
func (w *watcher[T]) verify(ctx context.Context, a action) event {
	e := w.read(ctx, a, a.page.opts(w.spec.Range)...)
	if e.err == nil {
		w.cfg.Streams.resumed(w.follower, e.read.Header.GetRevision()+1)
	}
	return e
}

// openWatch opens the watch once it has its turn. The etcd client blocks until etcd has answered, so the time from then on is
// bounded. If ctx ends meanwhile, the watch is still opened, and closed then, by a goroutine that nobody waits for: of one that
// is closed before, the etcd client keeps the stream.
func (w *watcher[T]) openWatch(ctx context.Context, a action) event {
	streams := w.cfg.Streams
	w.follower = &follower{first: a.revision, lost: func() { signal(w.lost) }}
	stream, err := streams.open(ctx, w.cfg.Last, w.follower)
	if stream == nil {
		return event{err: err}
	}
	lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	overdue := time.AfterFunc(a.bound, cancel)
	lasting, opened := streams.watchOn(lasting, stream)
	answers := make(chan clientv3.WatchChan)
	go func() {
		opts := w.spec.Range.opts(clientv3.WithRev(a.revision), clientv3.WithCreatedNotify())
		select {
		case answers <- w.cfg.Client.Watch(lasting, w.spec.Range.From, opts...):
		case <-ctx.Done():
			overdue.Stop()
			cancel()
			streams.opened(stream)
			streams.closed(stream, w.follower)
		}
	}()
	select {
	case w.answers = <-answers:
	case <-ctx.Done():
		return event{err: ctx.Err()}
	}
	defer streams.opened(stream)
	w.stream, w.cancel = stream, cancel
	opened()
	if !overdue.Stop() {
		streams.retire(stream) // before the next one has its turn
		return event{err: fmt.Errorf("%w within %v", errNotOpened, a.bound)}
	}
	return event{}
}

func (w *watcher[T]) closeWatch() {
	if w.stream == nil {
		return
	}
	w.cancel()
	w.cfg.Streams.closed(w.stream, w.follower)
	w.cancel, w.answers, w.stream = nil, nil, nil
	drain(w.lost)
}

// head reads a key, for the header of the answer: the first of the range, which whoever follows the range may read.
func (w *watcher[T]) head(ctx context.Context, a action) event {
	h, err := w.cfg.Streams.head(ctx, a.age, func() (h *etcdserverpb.ResponseHeader, err error) {
		for range tries { // one that hangs must not have all ranges that wait for it taken for cut off
			var resp *clientv3.GetResponse
			if resp, err = w.get(ctx, a.bound, w.spec.Range.From, clientv3.WithKeysOnly()); err == nil {
				return resp.Header, nil
			}
		}
		return nil, err
	})
	return event{head: h, latest: w.cfg.Streams.latest(w.stream), err: err}
}

// probe reads the number of keys and the one changed last.
func (w *watcher[T]) probe(ctx context.Context, a action) event {
	e := w.read(ctx, a, w.spec.Range.opts(clientv3.WithLimit(1), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))...)
	e.latest = w.cfg.Streams.latest(w.stream)
	return e
}

func (w *watcher[T]) requestProgress(ctx context.Context, bound time.Duration) event {
	if !w.cfg.Streams.ask(w.stream) {
		return event{}
	}
	ctx, cancel := context.WithTimeout(w.cfg.Streams.on(ctx, w.stream), bound)
	defer cancel()
	return event{err: w.cfg.Client.RequestProgress(ctx)}
}

func (w *watcher[T]) wait(ctx context.Context, d time.Duration, answers clientv3.WatchChan) event {
	w.timer.Reset(d)
	select {
	case answer, ok := <-answers:
		if !ok {
			return event{err: errClosed}
		}
		return event{answer: &answer}
	case <-w.lost:
		return event{lost: true}
	case <-w.back:
		return event{back: true}
	case <-w.timer.C:
	case <-ctx.Done():
	}
	return event{}
}

// signal has a channel of one place receive, unless it is about to already.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drain forgets a signal that nobody has received.
func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}
