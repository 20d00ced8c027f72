package seeds

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// pause is the time after each call of a load that is not busy. It leaves the processors to busy loads.
const pause = 10 * time.Millisecond

// load makes calls until it is stopped. It fails the test if a call fails.
type load struct {
	w    *world
	name string
	stop func()
	busy atomic.Bool // whether calls are made without a pause

	mu       sync.Mutex
	calls    int
	counts   map[string]int // calls by server, since reaches last cleared them
	failures int
	failed   error // the first error
}

// load starts two callers on a connection. The test must call stop before it stops the last server.
func (w *world) load(name string, conn grpc.ClientConnInterface) *load {
	l := &load{w: w, name: name, counts: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for ctx.Err() == nil {
				l.call(conn)
				if !l.busy.Load() {
					time.Sleep(pause)
				}
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if l.failed != nil {
			w.t.Errorf("%s: %d of %d calls failed, want none; the first error: %v", name, l.failures, l.calls, l.failed)
		}
	})
	w.t.Cleanup(l.stop)
	return l
}

func (l *load) call(conn grpc.ClientConnInterface) {
	ctx, cancel := context.WithTimeout(context.Background(), kit.Soon)
	defer cancel()
	server, err := sayHello(ctx, conn)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures++
		l.failed = cmp.Or(l.failed, err)
	}
	l.calls++
	l.counts[server]++
}

// reaches waits until a round of 50 calls reaches exactly the named servers.
func (l *load) reaches(names ...string) {
	l.w.t.Helper()
	slices.Sort(names)
	l.busy.Store(true)
	defer l.busy.Store(false)
	var got []string
	start := -1 // number of calls before the round; -1 before the first round
	kit.EventuallyOr(l.w.t, kit.Soon, func() string { return fmt.Sprintf("%s reaches %v; the last round reached %v", l.name, names, got) }, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if start >= 0 && l.calls < start+50 {
			return false
		}
		got = slices.Sorted(maps.Keys(l.counts))
		done := start >= 0 && slices.Equal(got, names)
		start, l.counts = l.calls, map[string]int{}
		return done
	})
}

// TestRoad moves from etcd naming's servers and callers to ours under load, one process after another, and back. Other systems need no
// row: they use the same layout, have a TestMigration of their own, or are in module compat.
func TestRoad(t *testing.T) { migrationtest.Run(t, etcdNaming.road) }

// road returns the servers and callers of the system, and ours.
func (s system) road(t *testing.T) (from, to migrationtest.Kind) {
	w := startWorld(t)
	from = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			old := w.serve(name)
			return s.register(w, s.desc.Key, old.addr), old.stop
		},
		Dial: func() (migrationtest.Call, func()) {
			conn := s.dial(w)
			kit.Eventually(w.t, kit.Soon, "a call of their client succeeds", func() bool { // go-zero's client fails until it has read etcd
				_, err := sayHello(bounded(t), conn)
				return err == nil
			})
			return calls(conn)
		},
	}
	to = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) { return nil, w.publish(name, s.desc).stop },
		Dial:  func() (migrationtest.Call, func()) { return calls(w.conn(s.desc, s.opts...)) },
	}
	return from, to
}

func calls(conn *grpc.ClientConn) (migrationtest.Call, func()) {
	return func(ctx context.Context) (string, error) { return sayHello(ctx, conn) }, func() { _ = conn.Close() }
}

// A service moves from go-zero's layout to that of etcd naming, with the same key and under load. First our servers with both
// layouts replace go-zero's, then readers of etcd naming replace go-zero's, then our servers stop writing go-zero's layout.
func TestMigration_FromGoZeroUnderLoad(t *testing.T) {
	w := newWorld(t)
	const key = "fleet/greeter"
	both := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key}
	oldReader := w.goZeroConn(key)
	newReader := w.etcdNamingConn(key)

	// There are only go-zero's servers.
	old1, old2 := w.serve("old 1"), w.serve("old 2")
	entry1, entry2 := w.goZeroPublish(key, old1.addr), w.goZeroPublish(key, old2.addr)
	theirs := w.load("go-zero's reader", oldReader)
	ours := w.load("our client", w.conn(both))
	theirs.reaches("old 1", "old 2")
	ours.reaches("old 1", "old 2")

	// Our servers, which write both layouts, replace go-zero's.
	dual := runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON)
	dual1, dual2 := w.publish("dual 1", both, dual), w.publish("dual 2", both, dual)
	theirs.reaches("old 1", "old 2", "dual 1", "dual 2")
	w.balanced(w.conn(both), "old 1", "old 2", "dual 1", "dual 2") // a server with two entries counts once
	entry1.Stop()
	entry2.Stop()
	theirs.reaches("dual 1", "dual 2")
	ours.reaches("dual 1", "dual 2")
	old1.stop()
	old2.stop()

	// A reader of etcd naming replaces go-zero's.
	naming := w.load("etcd naming's reader", newReader)
	naming.reaches("dual 1", "dual 2")
	theirs.reaches("dual 1", "dual 2")
	theirs.stop()

	// Our servers that write only the new layout replace those that write both.
	w.publish("new 1", both)
	w.publish("new 2", both)
	naming.reaches("dual 1", "dual 2", "new 1", "new 2")
	dual1.stop()
	dual2.stop()
	naming.reaches("new 1", "new 2")
	ours.reaches("new 1", "new 2")
	if left := w.entries(key); len(left) != 2 {
		t.Errorf("etcd has the entries %+v, want those of new 1 and new 2", left)
	}
	naming.stop()
	ours.stop()
}

// If an instance has the same key in the old and the new layout, servers cannot write both. Once all callers are our clients,
// which read both, a server with the new layout replaces each server with the old layout and takes over its instance id.
func TestMigration_OneKeyUnderLoad(t *testing.T) {
	w := newWorld(t)
	plain := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd", Layout: runtime.Plain}
	json := &runtime.ServiceDesc{Name: "basic.Greeter", Key: "/etcd"}
	ours := make([]*server, 2)
	for i := range ours {
		ours[i] = w.publish(fmt.Sprintf("old %d", i), plain, runtime.WithInstance(fmt.Sprintf("order-service-%d", i)))
	}
	calls := w.load("our client", w.conn(json))
	calls.reaches("old 0", "old 1")
	for i, old := range ours {
		w.publish(fmt.Sprintf("new %d", i), json, runtime.WithInstance(fmt.Sprintf("order-service-%d", i)), runtime.WithVersion("v2"))
		old.stop()
	}
	calls.reaches("new 0", "new 1")
	calls.stop()
	for _, left := range w.entries("/etcd/") {
		if !strings.Contains(left.value, `"version":"v2"`) {
			t.Errorf("etcd has the entry %+v, want only entries of version v2", left)
		}
	}
}
