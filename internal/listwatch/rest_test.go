package listwatch

import (
	"bytes"
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// quietEtcd is an etcd on which nothing happens to the ranges that are followed. Like etcd it answers a request for
// progress only if no watch of the stream begins at a revision to come.
type quietEtcd struct {
	mu       sync.Mutex
	revision int
	asked    int                     // messages, ever
	hangs    int                     // how many reads of where etcd is are to hang
	watches  map[string][]quietWatch // by stream
}

type quietWatch struct {
	first   int
	answers chan clientv3.WatchResponse
}

// write has somebody write something else.
func (e *quietEtcd) write() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.revision++
}

// take returns how many messages there were since it was last called.
func (e *quietEtcd) take() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	asked := e.asked
	e.asked = 0
	return asked
}

func (e *quietEtcd) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	e.mu.Lock()
	e.asked++
	op := clientv3.OpGet(key, opts...)
	hang, resp := op.RangeBytes() == nil && e.hangs > 0, list(e.revision)
	if hang {
		e.hangs--
	}
	e.mu.Unlock()
	if hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return resp, nil
}

func (e *quietEtcd) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	op := clientv3.OpGet(key, opts...)
	w := quietWatch{int(op.Rev()), make(chan clientv3.WatchResponse, 1)}
	if e.watches == nil {
		e.watches = make(map[string][]quietWatch)
	}
	e.watches[streamOf(ctx)] = append(e.watches[streamOf(ctx)], w)
	return w.answers
}

func (e *quietEtcd) RequestProgress(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked++
	watches := e.watches[streamOf(ctx)]
	for _, w := range watches {
		if w.first > e.revision {
			return nil
		}
	}
	for _, w := range watches {
		select {
		case w.answers <- *events(e.revision):
		default: // one is there already
		}
	}
	return nil
}

// quiet follows a hundred ranges on a quiet etcd.
func quiet(t *testing.T, then func(e *quietEtcd, g *Group[string], relisted *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		e, relisted := &quietEtcd{revision: 100}, new(atomic.Int64)
		g := newGroup(nil, &hooks{}, &bytes.Buffer{})
		g.cfg.Hooks.Relisted = func(string) { relisted.Add(1) }
		g.cfg.Client, g.cfg.Streams = e, NewStreams()
		g.cfg.Streams.connected = true
		defer g.Close()
		for range 100 {
			follow(g)
			time.Sleep(7 * time.Millisecond)
		}
		then(e, g, relisted)
	})
}

func follow(g *Group[string]) { g.Follow(testSpec(), func(Update[string]) {}) }

// TestMessagesAtRest counts what the ranges of a process ask of etcd within ten minutes in which nothing happens to
// them. The documents promise one message each half a minute.
func TestMessagesAtRest(t *testing.T) {
	const most = 20
	for name, before := range map[string]func(*quietEtcd, *Group[string]){
		"nobody writes":                     func(*quietEtcd, *Group[string]) {},
		"somebody has written":              func(e *quietEtcd, _ *Group[string]) { e.write() },
		"a range is followed after a write": func(e *quietEtcd, g *Group[string]) { e.write(); follow(g) },
		"a range is followed late":          func(e *quietEtcd, g *Group[string]) { e.write(); time.Sleep(time.Hour); e.write(); follow(g) },
	} {
		t.Run(name, func(t *testing.T) {
			quiet(t, func(e *quietEtcd, g *Group[string], relisted *atomic.Int64) {
				before(e, g)
				time.Sleep(2 * time.Minute)
				e.take()
				time.Sleep(10 * time.Minute)
				if asked := e.take(); asked > most || asked < most-1 {
					t.Errorf("%d messages in ten minutes, want one each %v", asked, maxPatience)
				}
				if n := relisted.Load(); n > 0 {
					t.Errorf("%d ranges were listed again", n)
				}
			})
		})
	}
}

// TestAReadThatHangs has one request lost, and then etcd hang.
func TestAReadThatHangs(t *testing.T) {
	quiet(t, func(e *quietEtcd, _ *Group[string], relisted *atomic.Int64) {
		time.Sleep(5 * time.Minute)
		hang := func(n int) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.hangs = n
		}
		hang(1)
		time.Sleep(2 * time.Minute)
		if n := relisted.Load(); n > 0 {
			t.Errorf("one request hung, and %d ranges were listed again", n)
		}
		hang(tries)
		time.Sleep(2 * time.Minute)
		if relisted.Load() == 0 {
			t.Errorf("requests hang, and no range is listed again")
		}
	})
}
