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

	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/migrationtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// pause follows each call that is not counted, and leaves the processors to the counted calls.
const pause = 10 * time.Millisecond

// load makes calls all the time. None may fail.
type load struct {
	w    *world
	name string
	stop func()
	busy atomic.Bool // calls are counted and made without a pause

	mu       sync.Mutex
	calls    int
	counts   map[string]int // by server, since the last reset
	failures int
	failed   error // the first
}

// load starts two callers on a connection. Stop them before the last server.
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

// reaches waits until calls reach exactly the named servers.
func (l *load) reaches(names ...string) {
	l.w.t.Helper()
	slices.Sort(names)
	l.busy.Store(true)
	defer l.busy.Store(false)
	var got []string
	start := -1 // the number of the first call that counts; -1 before the first round
	l.w.eventuallyOr(func() string { return fmt.Sprintf("%s reaches %v: last %v", l.name, names, got) }, func() bool {
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

// TestRoad moves servers and callers under load, one process after the other, and back. The other
// systems share a layout with this one, have a TestMigration of their own, or are in compat.
func TestRoad(t *testing.T) { migrationtest.Run(t, etcdNaming.road) }

// road returns the servers and callers to migrate from, and ours.
func (s system) road(t *testing.T) (from, to migrationtest.Kind) {
	w := startWorld(t)
	from = migrationtest.Kind{
		Serve: func(name string) (leave, stop func()) {
			old := w.serve(name)
			return s.register(w, s.desc.Key, old.addr), old.stop
		},
		Dial: func() (migrationtest.Call, func()) {
			conn := s.dial(w)
			w.eventually("a call of their client succeeds", func() bool { // go-zero's fails until then
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

// A service moves from go-zero's layout to etcd's own, under one key and under load. First servers that write both layouts
// replace go-zero's, then the readers move, then servers that write only the new layout replace the others.
func TestMigration_FromGoZeroUnderLoad(t *testing.T) {
	w := newWorld(t)
	const key = "fleet/greeter"
	both := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key}
	oldReader := w.goZeroConn(key)
	builder, err := resolver.NewBuilder(w.theirs)
	kit.Must(t, err)
	newReader := w.dial("etcd:///"+key, builder)

	// go-zero's servers alone.
	old1, old2 := w.serve("old 1"), w.serve("old 2")
	entry1, entry2 := w.goZeroPublish(key, old1.addr), w.goZeroPublish(key, old2.addr)
	theirs := w.load("go-zero's reader", oldReader)
	ours := w.load("our client", w.conn(both))
	theirs.reaches("old 1", "old 2")
	ours.reaches("old 1", "old 2")

	// Our servers write both layouts.
	dual := runtime.WithLayouts(runtime.GoZero, runtime.EndpointJSON)
	dual1, dual2 := w.publish("dual 1", both, dual), w.publish("dual 2", both, dual)
	theirs.reaches("old 1", "old 2", "dual 1", "dual 2")
	w.balanced(w.conn(both), "old 1", "old 2", "dual 1", "dual 2") // each of them once
	entry1.Stop()
	entry2.Stop()
	theirs.reaches("dual 1", "dual 2")
	ours.reaches("dual 1", "dual 2")
	old1.stop()
	old2.stop()

	// Readers move over.
	naming := w.load("etcd naming's reader", newReader)
	naming.reaches("dual 1", "dual 2")
	theirs.reaches("dual 1", "dual 2")
	theirs.stop()

	// Our servers write only the new layout.
	w.publish("new 1", both)
	w.publish("new 2", both)
	naming.reaches("dual 1", "dual 2", "new 1", "new 2")
	dual1.stop()
	dual2.stop()
	naming.reaches("new 1", "new 2")
	ours.reaches("new 1", "new 2")
	if left := w.entries(key); len(left) != 2 {
		t.Errorf("etcd has %+v, want the two new entries", left)
	}
	naming.stop()
	ours.stop()
}

// If the old layout and the new one share a key, servers cannot write both. Our clients read both, so
// once all callers are ours, each server is replaced under the instance id of the old one.
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
			t.Errorf("etcd has %+v, want only entries of version v2", left)
		}
	}
}
