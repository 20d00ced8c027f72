package discovery

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// await returns once the set of instances is one of those wanted.
func await(t *testing.T, sets <-chan []runtime.Endpoint, want ...string) {
	t.Helper()
	deadline := time.After(2 * soon)
	last := "nothing"
	for {
		select {
		case set := <-sets:
			var names []string
			for _, e := range set {
				names = append(names, e.Instance)
			}
			if last = strings.Join(names, " "); slices.Contains(want, last) {
				return
			}
		case <-deadline:
			t.Fatalf("the set is %.200s, want %v", last, want)
		}
	}
}

// flood puts n entries of some bytes.
func (w *world) flood(prefix string, n, bytes int) {
	w.t.Helper()
	each := max(1, min(100, 1<<20/(bytes+100)))
	for from := 0; from < n; from += each {
		var ops []clientv3.Op
		for i := from; i < min(n, from+each); i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/%s%06d", key, prefix, i),
				fmt.Sprintf(`{"Addr":"10.6.%d.%d:9000","Metadata":{"x":"%s"}}`, i/250%250, i%250, strings.Repeat("x", bytes))))
		}
		if _, err := w.etcd.Admin().Txn(kit.Bounded(w.t, soon)).Then(ops...).Commit(); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) drop(prefix string) {
	w.t.Helper()
	if _, err := w.etcd.Admin().Delete(kit.Bounded(w.t, soon), key+"/"+prefix, clientv3.WithPrefix()); err != nil {
		w.t.Fatal(err)
	}
}

// Endpoints that are known stay whatever is put beside them, and others come in once there is room.
func TestS4_KnownEndpointsStay(t *testing.T) {
	for _, tt := range []struct {
		name   string
		limits runtime.Limits
		n      int
		bytes  int
	}{
		{"many entries", runtime.Limits{Entries: 5}, 500, 1},
		{"many bytes", runtime.Limits{Bytes: 40_000}, 20, 50_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			leak.Beside(t)
			w := newWorld(t, nil, runtime.WithLimits(tt.limits), runtime.WithEmptyGrace(0))
			for _, name := range []string{"m", "n"} {
				w.put(key+"/"+name, name+":9000")
			}
			sets := w.watch(key)
			await(t, sets, "m n")
			w.flood("a", tt.n, tt.bytes)
			w.put(key+"/b", "b:9000") // finds no room, or the last of it
			w.put(key+"/n", "n:9001")
			w.delete(key + "/m")
			kit.Eventually(t, soon, "it is logged that entries are left out", func() bool { return w.logs.Count("the rest is left out") > 0 })
			w.drop("a")
			await(t, sets, "b n")
		})
	}
}

// A large range is listed page by page, in the memory of a page.
func TestS4_LargeRangesAreListed(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil, runtime.WithLimits(runtime.Limits{Bytes: 64 << 20}))
	const n = 10_000
	w.flood("i", n, 1000)
	began := time.Now()
	sets := w.watch(key)
	if set := <-sets; len(set) != n {
		t.Fatalf("%d endpoints are listed", len(set))
	}
	t.Logf("%d endpoints in 12 MB after %v", n, time.Since(began))
}

// Values that are larger than etcd takes by default are stepped over.
func TestS4_HugeValues(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil)
	huge := strings.Repeat("x", 1_500_000)
	for i := range 8 {
		w.put(fmt.Sprintf("%s/h%02d", key, i), huge)
	}
	w.put(key+"/a", "a:9000")
	w.put(key+"/z", "z:9000")
	await(t, w.watch(key), "a z")
}

// Ten thousand honest endpoints are known in a process of 1 GiB.
func TestS4_TenThousandHonestEndpointsLoadIn1GiB(t *testing.T) {
	kit.Night(t)
	before := debug.SetMemoryLimit(1 << 30)
	defer debug.SetMemoryLimit(before)
	w := newWorld(t, nil)
	const n = 10_000
	for from := 0; from < n; from += 100 {
		var ops []clientv3.Op
		for i := from; i < from+100; i++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/greeter-7f9c6d5b8-%05d", key, i), fmt.Sprintf(
				`{"Addr":"10.20.%d.%d:9000","Metadata":{"version":"v1.42.0","zone":"eu-west-1a","pod":"greeter-7f9c6d5b8-%05d","node":"ip-10-20-30-40.eu-west-1.compute.internal","commit":"9fceb02d0ae598e95dc970b74767f19372d61af8","started":"2026-11-20T21:00:00Z"}}`,
				i/250, i%250, i)))
		}
		if _, err := w.etcd.Admin().Txn(kit.Bounded(t, soon)).Then(ops...).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if set := <-w.watch(key); len(set) != n {
		t.Errorf("%d of %d honest endpoints are known: %s", len(set), n, strings.Join(w.logs.Lines(), "\n"))
	}
}

// A mark of leaving makes an entry larger, and is taken where the bytes are used up.
func TestS4_AMarkOfLeavingIsTakenWhereTheBytesAreUsedUp(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLimits(runtime.Limits{Bytes: 40_000}), runtime.WithEmptyGrace(0))
	label := strings.Repeat("x", 400)
	honest := func(name, more string) {
		w.put(key+"/"+name, fmt.Sprintf(`{"Addr":"%s:9000","Metadata":{"label":"%s"%s}}`, name, label, more))
	}
	honest("m", "")
	honest("n", "")
	sets := w.watch(key)
	await(t, sets, "m n")
	w.flood("a", 100, 1)
	w.drop("a000000")
	for size := 400; size < 2000; size += 20 { // takes up what is left of the last bytes
		w.put(key+"/f", fmt.Sprintf(`{"Addr":"f:9000","Metadata":{"label":"%s"}}`, strings.Repeat("x", size)))
	}
	kit.Eventually(t, soon, "the bytes are used up", func() bool { return w.logs.Count("the rest is left out") > 0 })
	honest("n", `,"grpc_leaving":"true"`)
	deadline := time.After(soon)
	for {
		select {
		case set := <-sets:
			names := map[string]bool{}
			for _, e := range set {
				names[e.Instance] = true
			}
			if !names["n"] {
				return
			}
		case <-deadline:
			t.Fatal("n has marked that it leaves, and is still called")
		}
	}
}

// After a pause, etcd puts up to a thousand changes into one answer of a watch. One that is larger than the client receives
// has the key listed instead.
func TestS4_AnAnswerOfAWatchIsBounded(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil)
	w.registry = w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) { c.MaxCallRecvMsgSize = 8 << 20 }))
	w.put(key+"/m", "m:9000")
	sets := w.watch(key)
	await(t, sets, "m")
	w.etcd.Cut()
	huge := strings.Repeat("x", 1_400_000)
	for range 12 {
		w.put(key+"/h", huge)
	}
	w.put(key+"/n", "n:9000")
	w.etcd.Restore()
	await(t, sets, "m n")
	kit.Eventually(t, 4*soon, "the answer is refused", func() bool { return w.logs.Count("larger than max") > 0 })
}

type kv struct {
	clientv3.KV
	largest *atomic.Int64
}

func (k kv) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	resp, err := k.KV.Get(ctx, key, opts...)
	if err == nil {
		n := 0
		for _, kv := range resp.Kvs {
			n += len(kv.Value)
		}
		k.largest.Store(max(k.largest.Load(), int64(n)))
	}
	return resp, err
}

// Pages have few keys, so that they are bounded whatever the client receives.
func TestS4_APageIsBounded(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil)
	var largest atomic.Int64
	w.client.KV = kv{namespace.NewKV(w.client.KV, "ns/"), &largest}
	w.client.Watcher = namespace.NewWatcher(w.client.Watcher, "ns/")
	w.registry = w.newRegistry(w.client)
	huge := strings.Repeat("x", 1_400_000)
	for i := range 24 {
		w.put(fmt.Sprintf("ns/%s/h%02d", key, i), huge)
	}
	w.put("ns/"+key+"/z", "z:9000")
	await(t, w.watch(key), "z")
	if got := largest.Load(); got > 16<<20 {
		t.Errorf("one page had %d MB", got>>20)
	}
}

// All instances are all, however few of them may be connected to.
func TestS4_AllInstancesAreAll(t *testing.T) {
	kit.Night(t)
	leak.Beside(t)
	w := newWorld(t, nil, runtime.WithLimits(runtime.Limits{Connections: 20}))
	const n = 30
	for i := range n {
		w.put(fmt.Sprintf("%s/i%02d", key, i), fmt.Sprintf(`{"Addr":"10.0.0.%d:9000"}`, i+1))
	}
	desc := basic.Greeter_EtcdServiceDesc
	instances, err := w.registry.NewInstances(&desc, plaintext()...)
	must(t, err)
	t.Cleanup(func() { instances.Close() })
	all, err := instances.All(kit.Bounded(t, soon))
	must(t, err)
	if len(all) != n {
		t.Errorf("%d of %d instances, and the log says %q", len(all), n, strings.Join(w.logs.Lines(), "\n"))
	}
}

// Old entries of servers that are dead leave room for live ones.
func TestS4_DeadOldEntriesLeaveRoomForLiveOnes(t *testing.T) {
	kit.Night(t)
	w := newWorld(t, nil, runtime.WithLimits(runtime.Limits{Connections: 16}))
	for i := range 16 {
		w.put(fmt.Sprintf("%s/dead%02d", key, i), fmt.Sprintf(`{"Addr":"127.0.0.1:%d"}`, i+1))
	}
	for _, name := range []string{"x", "y", "z"} {
		w.register(w.serve(name))
	}
	conn := w.conn()
	kit.Eventually(t, 2*soon, "a call reaches any of three live servers", func() bool {
		_, err := call(kit.Bounded(t, soon), conn)
		return err == nil
	})
}
