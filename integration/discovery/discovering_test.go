package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.opentelemetry.io/otel/sdk/metric"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

func TestD1_CompactedWhileDisconnected(t *testing.T) {
	w := newWorld(t, nil)
	a := w.register(w.serve("a"))
	conn := w.conn()
	reached(t, conn, soon, "a")
	w.etcd.Cut()
	w.register(w.serve("b"))
	w.delete(key + "/" + a.name)
	_, err := w.etcd.Compact(kit.Bounded(t, soon))
	must(t, err)
	w.etcd.Restore()
	reached(t, conn, soon, "b")
}

// closer is a Watcher whose watches end soon after they began, for as long as it is broken.
type closer struct {
	clientv3.Watcher
	broken  atomic.Bool
	watches atomic.Int64
}

func (c *closer) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	c.watches.Add(1)
	if c.broken.Load() {
		closed := make(chan clientv3.WatchResponse)
		close(closed)
		return closed
	}
	return c.Watcher.Watch(ctx, key, opts...)
}

func TestD2_WatchErrors(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	watcher := &closer{Watcher: w.client.Watcher}
	watcher.broken.Store(true)
	w.client.Watcher = watcher
	w.registry = w.newRegistry(w.client) // which takes a client as it is by then
	conn := w.calling("a")
	// How long it pauses before each watch is for the tests of listwatch to say, in virtual time.
	kit.Eventually(t, soon, "watches begin anew", func() bool { return watcher.watches.Load() >= 10 })
	if lines := w.logs.Lines(); len(lines) > 10 {
		t.Errorf("the log says, of watches that end all the time: %q", lines)
	}
	w.register(w.serve("b"))
	watcher.broken.Store(false)
	reached(t, conn, soon, "a", "b")
}

func TestD3_DeletedWhileDisconnected(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.register(w.serve("a")), w.register(w.serve("b"))
	conn := w.conn()
	reached(t, conn, soon, "a", "b")
	w.etcd.Cut()
	w.delete(key + "/" + a.name)
	w.etcd.Restore()
	reached(t, conn, soon, b.name)
}

// etcd was wiped while nobody was connected, and by now its revision is higher than it was: no number
// in its answers says that anything happened.
func TestD4_RevisionPassed(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	conn := w.calling("a")
	w.etcd.Cut()
	must(t, w.etcd.Wipe())
	w.registerAll("b", "c")
	for range 100 {
		w.put("unrelated", "x")
	}
	w.etcd.Restore()
	reached(t, conn, 2*soon, "b", "c")
}

// quorumIsLost leaves the last of three members.
func (w *world) quorumIsLost() {
	w.etcd.Member(0).Stop()
	w.etcd.Member(1).Stop()
}

func (w *world) quorumReturns() {
	w.t.Helper()
	must(w.t, w.etcd.Member(0).Restart())
	must(w.t, w.etcd.Member(1).Restart())
	_, err := w.etcd.Leader(kit.Bounded(w.t, soon))
	must(w.t, err)
}

func TestD5_QuorumLost(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})
	// The member that is left keeps its connections: a watch that wants a leader hears of the loss at once, and
	// another one would only be found silent after 8 s.
	w.registry = w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) { c.Endpoints = []string{w.etcd.Member(2).Endpoint()} }))
	conn := w.calling("a")
	load := underLoad(t, conn, 2)
	w.quorumIsLost()
	kit.Eventually(t, soon, "the loss is seen", func() bool { return w.logs.Count("interrupted") > 0 })
	load.more(t, 100)
	w.quorumReturns()
	w.register(w.serve("b"))
	reached(t, conn, 2*soon, "a", "b")
	load.none(t)
}

func TestD6_BlackHole(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})
	conn := w.calling("a")
	w.etcd.Member(w.watched()).Pause()
	w.register(w.serve("b"))
	reached(t, conn, 3*soon, "a", "b")
}

// watched returns the member at which the key is watched. It is known by the watch, which is opened after the list.
func (w *world) watched() (member int) {
	w.t.Helper()
	kit.Eventually(w.t, soon, "the key is watched", func() bool {
		for _, c := range w.etcd.Calls().All() {
			if c.Op == etcdtest.Watch && strings.HasPrefix(c.Key, key) {
				member = c.Member
				return true
			}
		}
		return false
	})
	return member
}

func TestD7_TokenExpires(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("secret"), etcdtest.WithTokenTTL(time.Second)})
	conn := w.calling("a")
	<-time.After(3 * time.Second) // for the token to expire
	changes := w.watch("second/key")
	if set := <-changes; len(set) != 0 {
		t.Errorf("the second key holds %v", set)
	}
	w.put("second/key/x", "10.0.0.1:1")
	w.register(w.serve("b"))
	if set := <-changes; len(set) != 1 {
		t.Errorf("the second key holds %v", set)
	}
	w.etcd.Calls().Reset()
	const more = 5
	for n := range more {
		w.put(fmt.Sprint("second/key/more", n), fmt.Sprint("10.0.0.1:", n+2))
		if set := <-changes; len(set) != n+2 {
			t.Errorf("the second key holds %v", set)
		}
	}
	lists := w.etcd.Calls().Count(etcdtest.Range, "second/key")
	if lists > 1 {
		t.Errorf("%d lists for %d changes: its watch does not stand", lists, more)
	}
	reached(t, conn, soon, "a", "b")
}

func TestD8_ReadsOnlyItsKey(t *testing.T) {
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("secret", etcdtest.User{
		Name: "caller", Password: "p", Permissions: []etcdtest.Permission{{Prefix: key + "/", Read: true}},
	})})
	w.registry = w.newRegistry(w.etcd.Client(t, etcdtest.As("caller", "p")))
	w.register(w.serve("a"))
	conn := w.conn()
	reached(t, conn, soon, "a")
	w.register(w.serve("b"))
	reached(t, conn, soon, "a", "b")
}

func TestD9_PermissionGrantedLater(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithAuth("secret", etcdtest.User{Name: "caller", Password: "p"})})
	w.registry = w.newRegistry(w.etcd.Client(t, etcdtest.As("caller", "p")))
	w.register(w.serve("a"))
	conn := w.conn()
	_, err := call(kit.Bounded(t, soon), conn)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "permission") {
		t.Errorf("call: %v, want Unavailable, naming %q and the permission", err, key)
	}
	admin := w.etcd.Admin()
	_, err1 := admin.RoleAdd(kit.Bounded(t, soon), "reader")
	_, err2 := admin.RoleGrantPermission(kit.Bounded(t, soon), "reader", key+"/", clientv3.GetPrefixRangeEnd(key+"/"), clientv3.PermissionType(clientv3.PermRead))
	_, err3 := admin.UserGrantRole(kit.Bounded(t, soon), "caller", "reader")
	must(t, errors.Join(err1, err2, err3))
	reached(t, conn, soon, "a")
}

func TestD10_Neighbours(t *testing.T) {
	w := newWorld(t, nil)
	for _, k := range []string{key + "-admin/x", key + "/admin/x", key + "2/x", key, key + "x"} {
		w.put(k, "10.0.0.1:1")
	}
	w.register(w.serve("a"))
	for _, layouts := range [][]runtime.Layout{nil, {runtime.LeaseSuffix}} {
		set := <-w.watch(key, layouts...)
		if ids(set) != "a" {
			t.Errorf("%v: the set is %v, want a alone", layouts, set)
		}
	}
}

func TestD11_MalformedValue(t *testing.T) {
	w := newWorld(t, nil)
	w.put(key+"/bad", "{")
	conn := w.calling("a")
	for range 5 {
		w.put(key+"/bad", "{")
	}
	w.register(w.serve("b"))
	reached(t, conn, soon, "a", "b")
	n := w.logs.Count(key + "/bad")
	if n != 1 {
		t.Errorf("the malformed value was logged %d times, want once", n)
	}
	w.put(key+"/b", "{")
	reached(t, conn, soon, "a") // b no more, though its last good value is known
}

func TestD12_WrappedClient(t *testing.T) {
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	client.KV = namespace.NewKV(client.KV, "tenant/")
	client.Watcher = namespace.NewWatcher(client.Watcher, "tenant/")
	client.Lease = namespace.NewLease(client.Lease, "tenant/")
	w.registry = w.newRegistry(client)
	a, b := w.serve("a"), w.serve("b")
	w.put("tenant/"+key+"/a", a.addr)
	w.put(key+"/wrong", "10.0.0.1:1")
	conn := w.conn()
	reached(t, conn, soon, "a")
	w.put("tenant/"+key+"/b", b.addr)
	reached(t, conn, soon, "a", "b")
	registration, err := w.registry.Register(kit.Bounded(t, soon), "other", runtime.Endpoint{Addr: a.addr})
	must(t, err)
	if w.get("tenant/other/"+a.addr) == nil {
		t.Error("the registration is not in the namespace")
	}
	must(t, registration.Close(kit.Bounded(t, soon)))
}

func TestD13_StaleMember(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})
	w.register(w.serve("a"))
	kit.Eventually(t, soon, "every member has the endpoint", func() bool {
		for _, m := range w.etcd.Members() {
			client := w.etcd.Client(t, func(c *clientv3.Config) { c.Endpoints = []string{m.Endpoint()} })
			if got, err := client.Get(kit.Bounded(t, soon), key+"/a", clientv3.WithSerializable()); err != nil || got.Count != 1 {
				return false
			}
		}
		return true
	})
	w.etcd.Calls().Reset()
	reached(t, w.conn(), soon, "a")
	asked := make(map[string]bool)
	for _, c := range w.etcd.Calls().All() {
		if c.Op == etcdtest.Range && c.Serializable && !asked[c.Key] { // on a busy machine a leader may well not answer in time
			t.Errorf("a member was asked before its leader was: %+v", c)
		}
		asked[c.Key] = asked[c.Key] || c.Op == etcdtest.Range
	}
	w.quorumIsLost()
	w.registry = w.newRegistry(w.etcd.Client(t)) // knows nothing
	conn := w.conn()
	reached(t, conn, soon, "a")
	w.quorumReturns()
	w.register(w.serve("b"))
	reached(t, conn, 2*soon, "a", "b")
}

func TestD14_HundredConnections(t *testing.T) {
	w := newWorld(t, nil)
	s := w.register(w.serve("a"))
	var all sync.WaitGroup
	for range 100 {
		conn := w.conn()
		all.Go(func() { reached(t, conn, soon, "a") })
	}
	all.Wait()
	for i := range 50 {
		w.put(fmt.Sprintf("%s/a%d", key, i), s.addr)
	}
	w.delete(key + "/a49")
	changes := w.watch(key)
	kit.Eventually(t, soon, "the changes are seen", func() bool {
		set := <-changes
		return len(set) == 1 // one address
	})
	calls := w.etcd.Calls()
	for list, watch := range map[string]string{key: key, configKey: "_grpc_config/"} {
		if lists, watches := calls.Count(etcdtest.Range, list), calls.Count(etcdtest.Watch, watch); lists != 1 || watches != 1 {
			t.Errorf("%s: %d lists and %d watches, want one of each", list, lists, watches)
		}
	}
}

func TestD15_Rollout(t *testing.T) {
	w := newWorld(t, nil, runtime.WithLimits(runtime.Limits{Connections: 16}))
	const n = 5000
	fill := func(version int) {
		var ops []clientv3.Op
		for i := range n {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s/i%05d", key, i),
				fmt.Sprintf(`{"Addr":"10.%d.%d.%d:9000","Metadata":{"version":"%d"}}`, version, i/250, i%250, version)))
		}
		w.commit(ops)
	}
	fill(0)
	var updates atomic.Int64
	conn := w.conn(runtime.WithSelector(func(e runtime.Endpoint) bool {
		if e.Instance == "i00000" {
			updates.Add(1)
		}
		return false // nothing is dialled
	}))
	conn.Connect()
	kit.Eventually(t, soon, "the first set is seen", func() bool { return updates.Load() > 0 })
	changes := w.watch(key)
	<-changes
	fill(1)
	kit.Eventually(t, soon, "the last change is seen", func() bool {
		set := <-changes
		return len(set) == n && !slices.ContainsFunc(set, func(e runtime.Endpoint) bool { return e.Version != "1" })
	})
	if updates.Load() > 60 {
		t.Errorf("%d updates of a connection for one rollout", updates.Load())
	}
	// However few of them may be connected to.
	if all, err := w.instances().All(kit.Bounded(t, soon)); err != nil || len(all) != n {
		t.Errorf("%d of %d instances, %v", len(all), n, err)
	}
}

func TestD16_HostileValues(t *testing.T) {
	reader := metric.NewManualReader()
	w := newWorld(t, nil, metered(reader))
	hostile := map[string]string{
		"unix":    "unix:/x",
		"unix2":   "unix:80",
		"dns":     "dns:///x",
		"user":    "user@10.0.0.1:1",
		"newline": "10.0.0.1:1\n10.0.0.2:2",
		"json":    `{"Addr":"passthrough:///x:1"}`,
		"large":   `{"Addr":"10.0.0.1:1","Metadata":"` + strings.Repeat("x", 1<<20) + `"}`,
		"zero":    "10.0.0.1:0",
	}
	for name, value := range hostile {
		w.put(key+"/"+name, value)
	}
	w.register(w.serve("a"))
	if got := ids(<-w.watch(key)); got != "a" {
		t.Errorf("the set is %s, want a alone", got)
	}
	reached(t, w.conn(), soon, "a")
	n, _ := value(t, reader, "etcdrpc.discovery.malformed_values")
	if int(n) != len(hostile) || w.logs.Count("malformed") == 0 {
		t.Errorf("%v values were reported, want %d", n, len(hostile))
	}
	for _, line := range w.logs.Lines() {
		if len(line) > 1000 {
			t.Errorf("a log line has %d bytes", len(line))
		}
	}
}
