package discovery

import (
	"errors"
	"fmt"
	"iter"
	"strings"
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

// If etcd is replaced while callers cannot reach it, they use its new content
// once they reach it again (D4). The new store's revision is higher than the
// old one's, so the revision does not show that the store was replaced.
func TestDisconnected_Converges(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, nil)
	conn := w.calling("a")
	w.etcd.Cut()
	kit.Must(t, w.etcd.Wipe())

	for range 100 {
		w.put("unrelated", "x")
	}

	w.registerAll("b")
	w.etcd.Restore()
	reached(t, conn, "b")
}

// While two of three members are down, calls go on (D5, R6), and a new caller
// reads the third, whose content may be stale (D13).
func TestQuorumLost_CallsGoOn(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMembers(3)})

	// The third member keeps its connections. A watch with WithRequireLeader
	// fails at once; without that option the registry would replace the watch
	// only after 8 s without a message.
	w.registry = w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) {
		c.Endpoints = []string{w.etcd.Member(2).Endpoint()}
	}))
	conn := w.calling("a")

	asked := make(map[string]bool)
	for _, c := range w.etcd.Calls().All() {
		// only later reads may be serializable
		if c.Op == etcdtest.Range && c.Serializable && !asked[c.Key] {
			t.Errorf("first read of %s: serializable, want linearizable: %+v", c.Key, c)
		}

		asked[c.Key] = asked[c.Key] || c.Op == etcdtest.Range
	}

	load := underLoad(t, conn)
	w.etcd.Member(0).Stop()
	w.etcd.Member(1).Stop()
	kit.Eventually(t, "the interrupted watch is logged", func() bool {
		return w.logs.Count("interrupted") > 0
	})
	load.More(100)
	knowsNothing := dial(t, w.newRegistry(w.etcd.Client(t)), greeterAt(key))
	reached(t, knowsNothing, "a")
	kit.Must(t, errors.Join(w.etcd.Member(0).Restart(), w.etcd.Member(1).Restart()))
	_, err := w.etcd.Leader(kit.Context(t))
	kit.Must(t, err)
	w.registerAll("b")
	reached(t, conn, "a", "b")
	reached(t, knowsNothing, "a", "b")
	load.Stop()
}

// Without read permission each call fails with an error that names the key.
// Permission to read the service's entries is enough (D8, D9). If the
// permission is revoked, the status says so, and callers still see the changes
// that etcd reports to an open watch.
func TestPermission_MayComeLater(t *testing.T) {
	leak.Parallel(t)
	w := newWorld(t, []etcdtest.Option{caller})
	w.registry = w.newRegistry(w.etcd.Client(t, etcdtest.As("caller", "p")))
	w.registerAll("a")
	conn := w.conn()
	i := w.instances()
	_, plain := once(conn)
	_, target := call(runtime.WithTarget(kit.Context(t), "a"), conn)
	_, all := i.All(kit.Context(t))

	_, each := ask(kit.Context(t), i)
	for what, err := range map[string]error{
		"a call":     plain,
		"WithTarget": target,
		"All":        all,
		"Each":       each,
	} {
		if status.Code(err) != codes.Unavailable ||
			!strings.Contains(err.Error(), key) ||
			!strings.Contains(err.Error(), "permission denied") {
			t.Errorf("%s: %v, want Unavailable with %q and \"permission denied\"", what, err, key)
		}
	}

	admin := w.etcd.Admin()
	_, err1 := admin.RoleAdd(kit.Context(t), "reader")
	_, err2 := admin.RoleGrantPermission(kit.Context(t), "reader", key+"/",
		clientv3.GetPrefixRangeEnd(key+"/"), clientv3.PermissionType(clientv3.PermRead))
	_, err3 := admin.UserGrantRole(kit.Context(t), "caller", "reader")
	kit.Must(t, errors.Join(err1, err2, err3))
	reached(t, conn, "a")
	w.registerAll("b")
	reached(t, conn, "a", "b")

	_, err := admin.RoleRevokePermission(kit.Context(t), "reader", key+"/",
		clientv3.GetPrefixRangeEnd(key+"/"))
	kit.Must(t, err)
	kit.Eventually(t, "the status says that a probe was denied", func() bool {
		return strings.Contains(fmt.Sprint(w.status().Err), "permission denied")
	})
	w.registerAll("c")
	reached(t, conn, "a", "b", "c")

	if n := w.logs.Count("interrupted"); n > 0 {
		t.Errorf("%d watches were closed, want none: %s", n, w.logs.Lines())
	}
}

// Keys that only begin with the service's key are not its endpoints (D10). The
// puts of one transaction are one update (R9).
func TestNeighbours_AreIgnored(t *testing.T) {
	w := newWorld(t, nil)
	for _, k := range []string{key + "-admin/x", key + "/admin/x", key + "2/x", key, key + "x"} {
		w.put(k, "10.0.0.1:1")
	}

	w.registerAll("a")

	var ops []clientv3.Op
	for i := range 100 {
		ops = append(ops,
			clientv3.OpPut(fmt.Sprintf("%s/x%d", key, i), fmt.Sprintf("10.0.0.1:%d", i+1)))
	}

	suffixed := w.watch(key, runtime.LeaseSuffix)

	changes := w.watch(key)
	for _, sets := range []<-chan []runtime.Endpoint{suffixed, changes} {
		if set := <-sets; ids(set) != "a" {
			t.Errorf("Watch yields %v, want the endpoint a alone", set)
		}
	}

	for range 5 {
		w.put(key+"/a", *w.get(key + "/a"), clientv3.WithLease(w.grant())) // no update
	}

	w.commit(ops)

	if set := <-changes; len(set) != 101 {
		t.Errorf("the first update has %d endpoints, want all 101", len(set))
	}
}

// A malformed (D11) or hostile (D16) value is skipped, counted, and logged
// once, in at most 1000 bytes.
func TestBadValues_AreSkipped(t *testing.T) {
	reader := metric.NewManualReader()
	w := newWorld(t, nil, metered(reader))

	bad := map[string]string{
		"bad":     "{",
		"unix":    "unix:/x",
		"unix2":   "unix:80",
		"dns":     "dns:///x",
		"user":    "user@10.0.0.1:1",
		"newline": "10.0.0.1:1\n10.0.0.2:2",
		"json":    `{"Addr":"passthrough:///x:1"}`,
		"large":   `{"Addr":"10.0.0.1:1","Metadata":"` + strings.Repeat("x", 1<<20) + `"}`,
		"zero":    "10.0.0.1:0",
	}
	for name, value := range bad {
		w.put(key+"/"+name, value)
	}

	conn := w.calling("a")

	n, _ := value(t, reader, "etcdrpc.discovery.malformed_values")
	if int(n) != len(bad) || w.logs.Count("malformed") == 0 {
		t.Errorf("%v skipped values and %d log lines, want %d and some", n,
			w.logs.Count("malformed"), len(bad))
	}

	for range 5 {
		w.put(key+"/zero", "10.0.0.1:0")
	}

	w.registerAll("b")
	reached(t, conn, "a", "b")

	if n := w.logs.Count(key + "/zero"); n > 1 {
		t.Errorf("a malformed value was logged %d times, want at most once", n)
	}

	for _, line := range w.logs.Lines() {
		if len(line) > 1000 {
			t.Errorf("a log line has %d bytes, want at most 1000: %.80s", len(line), line)
		}
	}

	w.put(key+"/b", "{")
	reached(t, conn, "a") // a malformed value also replaces the good value of b
}

// The registry uses the KV, Watcher and Lease of the etcd client, which a
// program may replace with wrappers (D12).
func TestWrappedClient_IsUsed(t *testing.T) {
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	client.KV = namespace.NewKV(client.KV, "tenant/")
	client.Watcher = namespace.NewWatcher(client.Watcher, "tenant/")
	client.Lease = namespace.NewLease(client.Lease, "tenant/")
	w.registry = w.newRegistry(client)
	a := w.serve("a")
	b := w.serve("b")
	w.put("tenant/"+key+"/a", a.addr)
	w.put(key+"/wrong", "10.0.0.1:1")
	conn := w.conn()
	reached(t, conn, "a")
	w.put("tenant/"+key+"/b", b.addr)
	reached(t, conn, "a", "b")
	registration, err := w.registry.Register(kit.Context(t), "other",
		runtime.Endpoint{Addr: a.addr})
	kit.Must(t, err)

	if w.get("tenant/other/"+a.addr) == nil {
		t.Errorf(
			"etcd has no key tenant/other/%s, want the registration in the wrapper's namespace",
			a.addr)
	}

	kit.Must(t, registration.Close(kit.Context(t)))
}

// A process with a hundred connections to a service makes one list and one
// watch of its entries, and of its live config. It does not list the live
// configs of other services (D14, K21).
func TestHundredConnections_OneListAndWatch(t *testing.T) {
	w := newWorld(t, nil)
	w.registerAll("a")

	for range 100 {
		w.conn().Connect()
	}

	conn := w.conn()
	reached(t, conn, "a")
	w.registerAll("b")
	reached(t, conn, "a", "b")

	for _, watched := range []string{key, configKey, "_grpc_config/"} {
		if n := w.etcd.Calls().Count(etcdtest.Watch, watched); n != 1 {
			t.Errorf("%d watches of %s, want 1", n, watched)
		}
	}

	for _, listed := range []string{key, configKey} {
		n := w.etcd.Calls().Count(etcdtest.Range, listed)
		if n < 1 || n > 10 { // a list that times out is repeated
			t.Errorf("%d lists of %s, want one, whatever the number of connections", n, listed)
		}
	}
}

// TestFewStreams follows many keys and keeps a registration over a connection
// that allows three streams: one for all watches, one for renewals, and one for
// calls. It does the same after the connection is lost.
func TestFewStreams(t *testing.T) {
	w := newWorld(t, []etcdtest.Option{etcdtest.WithMaxConcurrentStreams(3)},
		runtime.WithLeaseTTL(6*time.Second))
	g, err := w.registry.Register(kit.Context(t), key, runtime.Endpoint{Addr: "10.0.0.1:1"})
	kit.Must(t, err)

	many := make([]<-chan []runtime.Endpoint, 40)
	for i := range many {
		many[i] = w.watch(fmt.Sprint("many/", i))
	}

	change := func(instance int, want string) {
		t.Helper()

		for i := range many {
			w.put(fmt.Sprintf("many/%d/%d", i, instance), fmt.Sprint("10.0.0.1:", instance))
		}

		for _, sets := range many {
			await(t, sets, want)
		}
	}

	change(1, "1")
	w.etcd.Cut()
	kit.Eventually(t, "the connection is lost", func() bool {
		return w.registry.Status().Etcd.Err != nil
	})
	w.etcd.Restore()
	kit.Eventually(t, "the server is registered", func() bool {
		return g.Status().State == runtime.StateRegistered
	})
	change(2, "1 2")
	w.etcd.Calls().Reset()
	kit.Must(t, w.etcd.Calls().Wait(kit.Context(t), etcdtest.LeaseKeepAlive, "", 1))

	for _, k := range w.registry.Status().Keys {
		if k.Err != nil {
			t.Errorf("key %s: %v, want no error", k.Key, k.Err)
		}
	}
}

// Services yields the service keys under a prefix, and an error for a limit, a
// missing right, or an etcd that does not answer.
func TestServices(t *testing.T) {
	leak.Parallel(t)

	w := newWorld(t, []etcdtest.Option{caller}, runtime.WithNamespace("prod/"))
	for k, v := range map[string]string{
		"acme/user/a":         `{"Addr":"10.0.0.1:1"}`,
		"acme/user/b":         "10.0.0.2:1",
		"acme/user-admin/a":   "10.0.0.1:1",
		"acme/x/bad":          "{",
		"acme/y":              "z",
		"/acme/user/a":        "10.0.0.1:1",
		"_grpc_config/acme/z": `{"loadBalancingConfig":[{"round_robin":{}}]}`,
	} {
		w.put("prod/"+k, v)
	}

	w.put("test/acme/other/a", "10.0.0.1:1")
	ctx := kit.Bounded(t, time.Minute)
	follow := func(prefix string, opts ...runtime.Option) func(want string) {
		registry := w.newRegistry(w.client, opts...)
		next, stop := iter.Pull2(registry.Services(ctx, prefix))
		t.Cleanup(stop)

		return func(want string) {
			t.Helper()

			if keys, err, _ := next(); !strings.Contains(fmt.Sprint(keys, err), want) {
				t.Errorf("Services(%q) yielded %v, %v, want %q", prefix, keys, err, want)
			}
		}
	}

	acme := follow("acme/", runtime.WithNamespace("prod/"))
	namespaced := runtime.WithNamespace("prod/")
	acme("[acme/user acme/user-admin] <nil>")
	follow("", namespaced)("[/acme/user acme/user acme/user-admin] <nil>")
	follow("")("[prod/acme/user prod/acme/user-admin test/acme/other] <nil>")
	follow("none/")("[] <nil>")
	few := follow("acme/", namespaced, runtime.WithLimits(runtime.Limits{Bytes: 250}))
	few("[acme/user-admin] <nil>")
	few("[] services under \"prod/acme/\": the entries exceed WithLimits' Bytes")
	w.client = w.etcd.Client(t, etcdtest.As("caller", "p"))
	follow("acme/")("lacks READ permission")
	w.delete("prod/acme/user-admin/a")
	w.delete("prod/acme/user/a")
	acme("[acme/user] <nil>")
	w.etcd.Cut()
	acme("[] etcd: ")
	w.etcd.Restore()
	acme("[acme/user] <nil>")
}
