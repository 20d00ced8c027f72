package listwatch

import (
	"context"
	"sync"
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
	w := &watcher[T]{cfg: &g.cfg, spec: spec, sink: sink, doubt: make(chan struct{}, 1), back: make(chan struct{}, 1), core: newCore(spec, &g.cfg)}
	g.watchers[w] = struct{}{}
	g.running.Go(func() { w.run(ctx) })
	return func() {
		cancel()
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.watchers, w)
	}
}

// Reconnected is called when the connection to etcd is back, which the etcd client hides: etcd may have been
// replaced. A range that waits for a list is listed at once. The others are verified by a list.
func (g *Group[T]) Reconnected() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for w := range g.watchers {
		signal(w.back)
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
