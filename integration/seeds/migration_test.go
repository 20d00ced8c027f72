package seeds

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// load is calls without a pause, of which none may fail.
type load struct {
	w    *world
	name string
	stop func()

	mu       sync.Mutex
	calls    int
	counts   map[string]int // by server, since the last reset
	failures int
	failed   error // the first
}

// load starts two callers on a connection, to be stopped before the last server is.
func (w *world) load(name string, conn grpc.ClientConnInterface) *load {
	l := &load{w: w, name: name, counts: map[string]int{}}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for range 2 {
		running.Go(func() {
			for ctx.Err() == nil {
				l.call(conn)
			}
		})
	}
	l.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if l.failed != nil {
			w.t.Errorf("%s: of %d calls %d have failed, the first with %v", name, l.calls, l.failures, l.failed)
		}
	})
	w.t.Cleanup(l.stop)
	return l
}

func (l *load) call(conn grpc.ClientConnInterface) {
	ctx, cancel := context.WithTimeout(context.Background(), soon)
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

// reaches waits until calls from now on reach exactly the named servers.
func (l *load) reaches(names ...string) {
	l.w.t.Helper()
	slices.Sort(names)
	var got map[string]int
	l.w.eventuallyOr(func() string { return fmt.Sprintf("%s reaches %v: last %v", l.name, names, got) }, func() bool {
		got = l.during(50)
		if len(got) != len(names) {
			return false
		}
		for _, name := range names {
			if got[name] == 0 {
				return false
			}
		}
		return true
	})
}

// during returns which servers answered the next n calls.
func (l *load) during(n int) map[string]int {
	l.mu.Lock()
	l.counts = map[string]int{}
	until := l.calls + n
	l.mu.Unlock()
	var got map[string]int
	l.w.eventually(fmt.Sprintf("%s makes %d calls", l.name, n), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.calls < until {
			return false
		}
		got = l.counts
		l.counts = map[string]int{}
		return true
	})
	return got
}

// A fleet moves from go-zero to etcd's own layout, under one key and under load: servers that write
// both take the place of theirs, readers move over, servers that write the new one alone take over.
func TestMigration_FromGoZeroUnderLoad(t *testing.T) {
	w := newWorld(t)
	const key = "fleet/greeter"
	both := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key}
	oldReader := w.dial("discov:///"+key, w.goZeroResolver())
	builder, err := resolver.NewBuilder(w.theirs)
	if err != nil {
		t.Fatal(err)
	}
	newReader := w.dial("etcd:///"+key, builder)

	// Theirs alone.
	old1, old2 := w.serve("old 1"), w.serve("old 2")
	entry1, entry2 := w.goZeroPublish(key, old1.addr), w.goZeroPublish(key, old2.addr)
	theirs := w.load("go-zero's reader", oldReader)
	ours := w.load("our client", w.conn(both))
	theirs.reaches("old 1", "old 2")
	ours.reaches("old 1", "old 2")

	// Ours write both.
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

	// Ours write the new layout alone.
	w.publish("new 1", both)
	w.publish("new 2", both)
	naming.reaches("dual 1", "dual 2", "new 1", "new 2")
	dual1.stop()
	dual2.stop()
	naming.reaches("new 1", "new 2")
	ours.reaches("new 1", "new 2")
	if left := w.entries(key); len(left) != 2 {
		t.Errorf("in etcd are %+v, want the new two", left)
	}
	naming.stop()
	ours.stop()
}

// A fleet leaves the lease suffix: the gateway lists whatever begins with the name of the service,
// and finds each address of ours twice, which is no harm to it.
func TestMigration_FromLeaseSuffixUnderLoad(t *testing.T) {
	w := newWorld(t)
	const key = "hello"
	plain := &runtime.ServiceDesc{Name: "basic.Greeter", Key: key, Layout: runtime.Plain}
	old := w.serve("old")
	entry := w.suffixRegister(key, old.addr, 5*time.Second)
	gateway := w.load("the gateway", w.dial("suffix:///"+key, w.suffixResolver()))
	before := w.load("our client that reads the lease suffix", w.conn(suffixed(key)))
	before.reaches("old")
	dual := w.publish("dual", plain, runtime.WithLayouts(runtime.LeaseSuffix, runtime.Plain))
	gateway.reaches("old", "dual")
	before.reaches("old", "dual")
	entry.unregister()
	gateway.reaches("dual")
	before.reaches("dual")
	old.stop()

	after := w.load("our client that does not", w.conn(plain))
	after.reaches("dual")
	gateway.stop()
	before.stop()
	w.publish("new", plain)
	after.reaches("dual", "new")
	dual.stop()
	after.reaches("new")
	after.stop()
}

// Where the old layout and the new one keep an instance under one key there is nothing to write
// twice: clients of ours read both, so once all callers are ours the servers are replaced, each
// under the instance id that it had.
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
			t.Errorf("left is %+v", left)
		}
	}
}
