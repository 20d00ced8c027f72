package listwatch

import (
	"context"
	"sync"
	"time"
)

// maxRemembered bounds the ranges that are remembered after they were last followed.
const maxRemembered = 1000

// Spec says what to follow.
type Spec[T any] struct {
	Range  Range
	Decode Decode[T] // the same for all who follow the range
}

// Cache shares watchers: however many follow a range, etcd sees one list and one watch. It is safe
// for concurrent use.
type Cache[T any] struct {
	cfg     Config[T]
	streams streams
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu         sync.Mutex
	shared     map[Range]*share[T]
	remembered map[Range]*Snapshot[T] // of ranges that are not followed any more
}

// share is a watcher and what keeps it running.
type share[T any] struct {
	watcher *watcher[T]
	stop    context.CancelFunc
	users   int
	linger  *time.Timer // runs while there are no users
}

// NewCache returns a cache that follows nothing yet and does no I/O.
func NewCache[T any](cfg Config[T]) *Cache[T] {
	ctx, cancel := context.WithCancel(context.Background())
	return &Cache[T]{
		cfg: cfg, ctx: ctx, cancel: cancel,
		shared:     make(map[Range]*share[T]),
		remembered: make(map[Range]*Snapshot[T]),
	}
}

// Follow tells user all news of a range until stop is called, beginning with what is known, if
// anything is. It does no I/O itself. user is called by one goroutine at a time and must return
// soon; it must not call stop. After Close it is not called again.
func (c *Cache[T]) Follow(spec Spec[T], user func(Update[T])) (stop func()) {
	c.mu.Lock()
	s, ok := c.shared[spec.Range]
	if !ok {
		s = c.start(spec)
	}
	s.users++
	if s.linger != nil {
		s.linger.Stop()
		s.linger = nil
	}
	c.mu.Unlock()

	s.watcher.add(&user)
	return sync.OnceFunc(func() {
		s.watcher.remove(&user)
		c.release(spec.Range, s)
	})
}

// start must be called with mu held.
func (c *Cache[T]) start(spec Spec[T]) *share[T] {
	ctx, stop := context.WithCancel(c.ctx)
	w := newWatcher(&c.cfg, &c.streams, spec, c.remembered[spec.Range])
	s := &share[T]{watcher: w, stop: stop}
	c.shared[spec.Range] = s
	delete(c.remembered, spec.Range)
	if ctx.Err() != nil {
		return s // closed: nothing is followed any more
	}
	c.running.Go(func() { w.run(ctx) })
	return s
}

// release stops a watcher some time after its last user left.
func (c *Cache[T]) release(r Range, s *share[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.users--
	if s.users > 0 || c.ctx.Err() != nil {
		return
	}
	s.linger = time.AfterFunc(c.cfg.Linger, func() { c.expire(r, s) })
}

func (c *Cache[T]) expire(r Range, s *share[T]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.users > 0 || c.shared[r] != s {
		return
	}
	delete(c.shared, r)
	s.stop()
	if last := s.watcher.lastSnapshot(); last != nil && len(c.remembered) < maxRemembered {
		c.remembered[r] = last
	}
}

// Check has every range verified, and its watch asked for a sign of life, at once: after a reconnect,
// which the etcd client hides, etcd may be another than before.
func (c *Cache[T]) Check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.shared {
		select {
		case s.watcher.check <- struct{}{}:
		default:
		}
	}
}

// Close stops following everything and waits until that is done, which takes no answer from etcd.
func (c *Cache[T]) Close() {
	c.mu.Lock()
	c.cancel()
	for _, s := range c.shared {
		if s.linger != nil {
			s.linger.Stop()
		}
	}
	c.mu.Unlock()
	c.running.Wait()
}
