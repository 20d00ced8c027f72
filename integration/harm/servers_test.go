package harm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// TestServers runs our registry and plain code on one etcd, under the same faults. It counts the puts and deletes of
// the entries that the test leaves alone (untouched). Ours must not have more of either than plain code.
func TestServers(t *testing.T) {
	for _, row := range []struct {
		name    string
		entries int            // number of untouched entries of each side
		layout  runtime.Layout // layout of our entries; nil: the default
		fault   func(w *serverWorld)
	}{
		{"a stall of 4 s", 200, nil, (*serverWorld).stall},
		{"a stall of 4 s, and keys named by the lease", 200, runtime.GoZero, (*serverWorld).stall},
		{"connections are cut again and again", 20, nil, func(w *serverWorld) {
			for range 10 {
				w.etcd.Cut()
				time.Sleep(50 * time.Millisecond)
				w.etcd.Restore()
				time.Sleep(50 * time.Millisecond)
			}
		}},
		{"other entries come and go", 20, nil, (*serverWorld).churn},
		{"other entries with keys named by the lease come and go", 20, runtime.GoZero, (*serverWorld).churn},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newServerWorld(t, row.entries, row.layout)
			row.fault(w)
			w.settle()
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Logf("puts: %v; deletes: %v", w.puts, w.deletes)
			if w.puts["ours"] > w.puts["plain"] || w.deletes["ours"] > w.deletes["plain"] {
				t.Errorf("ours made %d puts and %d deletes, want at most %d and %d as plain code", w.puts["ours"], w.deletes["ours"], w.puts["plain"], w.deletes["plain"])
			}
		})
	}
}

// serverWorld is an etcd in which both sides keep entries: ours below "ours/", plain code below "plain/".
type serverWorld struct {
	*testing.T
	etcd     *etcdtest.Cluster
	registry *runtime.Registry
	opts     []runtime.RegisterOption
	plain    *clientv3.Client
	entries  int

	mu            sync.Mutex
	there         map[string]map[string]bool // which untouched entries are in etcd, by side
	puts, deletes map[string]int             // events of untouched entries, by side, after the start
	last          string                     // the key of the last event
}

// newServerWorld starts both sides and waits until the entries of both are in etcd.
func newServerWorld(t *testing.T, entries int, layout runtime.Layout) *serverWorld {
	const ttl = time.Minute // so long that an entry left behind stays to the end of the test
	w := &serverWorld{T: t, etcd: etcdtest.Start(t), entries: entries, there: map[string]map[string]bool{"ours": {}, "plain": {}}}
	if layout != nil {
		w.opts = append(w.opts, runtime.WithLayouts(layout))
	}
	ctx, end := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { end(); running.Wait() })
	events := w.etcd.Admin().Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(1))
	running.Go(func() {
		for answer := range events {
			for _, event := range answer.Events {
				w.onEvent(event)
			}
		}
	})
	w.plain = w.etcd.Client(t)
	w.registry = kit.Registry(t, new(kit.Logs), w.etcd.Client(t), runtime.WithLeaseTTL(ttl))
	var keys []string
	for i := range entries {
		keys = append(keys, fmt.Sprintf("plain/%d/a", i))
		running.Go(func() { w.register(fmt.Sprintf("ours/%d", i)) })
	}
	running.Go(func() { keepPlain(ctx, w.plain, int64(ttl.Seconds()), keys) })
	w.bothThere("at the start")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.puts, w.deletes = make(map[string]int), make(map[string]int)
	return w
}

// keepPlain keeps entries in etcd as etcd's documentation shows: grant, put, keep alive. Once the lease
// is gone it begins again.
func keepPlain(ctx context.Context, client *clientv3.Client, ttl int64, keys []string) {
	for ctx.Err() == nil {
		if lease, err := client.Grant(ctx, ttl); err == nil {
			for _, key := range keys {
				_, put := client.Put(ctx, key, "10.0.0.1:9000", clientv3.WithLease(lease.ID))
				err = errors.Join(err, put)
			}
			if answers, alive := client.KeepAlive(ctx, lease.ID); err == nil && alive == nil {
				for range answers {
				}
			}
		}
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (w *serverWorld) register(key string) *runtime.Registration {
	registration, err := w.registry.Register(kit.Bounded(w, kit.Soon), key, runtime.Endpoint{Addr: "10.0.0.1:9000"}, w.opts...)
	if err != nil {
		w.Error(err)
	}
	return registration
}

func (w *serverWorld) onEvent(event *clientv3.Event) {
	key := string(event.Kv.Key)
	side, rest, _ := strings.Cut(key, "/")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = key
	counts := w.puts
	switch {
	case w.there[side] == nil || strings.HasPrefix(rest, "touched"):
		return
	case event.Type == clientv3.EventTypePut:
		w.there[side][key] = true
	default:
		delete(w.there[side], key)
		counts = w.deletes
	}
	if counts != nil {
		counts[side]++
	}
}

// bothThere waits until all untouched entries of both sides are in etcd.
func (w *serverWorld) bothThere(when string) {
	w.Helper()
	kit.Eventually(w.T, kit.Soon, "both sides have their entries in etcd "+when, func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.there["ours"]) == w.entries && len(w.there["plain"]) == w.entries
	})
}

// settle waits until both sides have made their writes and onEvent has counted all events.
func (w *serverWorld) settle() {
	w.Helper()
	w.register("ours/touched-last")
	w.bothThere("in the end")
	_, err := w.plain.Put(kit.Bounded(w, kit.Soon), "plain/touched-last", "")
	kit.Must(w, err)
	kit.Eventually(w.T, kit.Soon, "the last event is counted", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.last == "plain/touched-last"
	})
}

// stall pauses etcd for 4 s, while each side writes a touched entry.
func (w *serverWorld) stall() {
	ctx := kit.Bounded(w, kit.Soon)
	one := w.register("ours/touched")
	w.etcd.Pause()
	var writing sync.WaitGroup
	writing.Go(func() { _ = one.Update(ctx, runtime.WithVersion("v2")) }) // the write may fail
	writing.Go(func() { _, _ = w.plain.Put(ctx, "plain/touched", "10.0.0.1:9000") })
	time.Sleep(4 * time.Second)
	w.etcd.Resume()
	writing.Wait()
}

// churn registers and closes touched entries of ours.
func (w *serverWorld) churn() {
	for i := range 150 {
		kit.Must(w, w.register(fmt.Sprintf("ours/touched%d", i)).Close(kit.Bounded(w, kit.Soon)))
	}
}
