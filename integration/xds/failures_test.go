package xds

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/leader"
	"github.com/etcdrpc/protoc-gen-go-etcd/xds"
)

// restart stops the first bridge and starts another bridge at the same address.
func (w *world) restart(opts ...runtime.Option) {
	w.t.Helper()

	w.bridges[0].stop()
	lis, err := net.Listen("tcp", w.bridges[0].addr)
	kit.Must(w.t, err)
	w.bridges[0] = w.bridgeAt(lis, w.newRegistry(opts...), w.desc)
}

// acknowledged waits until a client has acknowledged routes and endpoints.
func (w *world) acknowledged() {
	w.t.Helper()

	reason := func() string { return "the client reconnects" }
	hasAcked := func(c xds.Client) bool {
		return len(c.Types) == 4 && c.Types[1].Acked != "" && c.Types[3].Acked != ""
	}
	kit.EventuallyOr(w.t, 2*kit.Soon, reason, func() bool {
		return slices.ContainsFunc(w.bridges[0].Status().Clients, hasAcked)
	})
}

// No call fails when instances and the policy change, or while a bridge is
// down.
func TestNoCallFails(t *testing.T) {
	for _, language := range languages(t) {
		t.Run(language.name+"/events", func(t *testing.T) {
			w := newWorld(t, "")
			servers := []*instance{
				w.add("s0", runtime.WithVersion("v1")),
				w.add("s1", runtime.WithVersion("v2")),
			}

			events := []func(){
				func() { servers = append(servers, w.add("s2", runtime.WithVersion("v2"))) },
				func() { servers[0].stop() },
				func() { w.change(policy(halves)) },
				func() {
					w.restart()
					w.acknowledged()
				},
				func() { w.change(policy(`"route":[{"label":"version"}]`)) },

				// The client reconnects, with routes to clusters that the new
				// policy does not have.
				func() {
					w.bridges[0].stop()
					w.set(`{"loadBalancingConfig":[{"etcd_weighted":{}}]}`)
					w.restart()
					w.acknowledged()
				},
				func() { w.change(policy(`"drain":["s1"]`)) },
				func() {
					reached := w.reached()
					w.set(policy(halves))
					kit.Eventually(w.t, "the client receives a response", reached)
					w.restart() // clients know the new clusters, and may not have connected to them
					w.acknowledged()
				},
			}

			w.noFailure(language.dial(w, ""), calls(200), 2000, events...)
		})

		t.Run(language.name+"/one of two bridges is dead", func(t *testing.T) {
			w := newWorld(t, "")
			w.bridges = append(w.bridges, w.bridge())
			w.add("a")

			w.noFailure(language.dial(w, ""), calls(200), 800, func() {
				w.bridges[0].stop()
				w.add("b")
			})

			// Of new clients, only those of grpc-go try the second bridge.
			if language.name == "go" {
				w.eventually(language.dial(w, ""), calls(40),
					"the endpoints of the second bridge", only("a", "b"))
			}
		})
	}
}

// change puts a live service config, and waits until clients have acknowledged
// the responses that it causes.
func (w *world) change(config string) {
	w.t.Helper()

	reached := w.reached()
	w.set(config)

	kit.Eventually(w.t, "the clients have the policy", func() bool {
		_, all := w.acked()
		return all && reached()
	})
}

// reached waits until clients have acknowledged all responses. It returns a
// function that reports whether clients have been sent another version since.
func (w *world) reached() func() bool {
	w.t.Helper()

	var before string
	kit.Eventually(w.t, "clients have acknowledged all", func() (all bool) {
		before, all = w.acked()
		return all
	})

	return func() bool {
		now, all := w.acked()
		return !all || now != before
	}
}

// acked returns the versions that clients have acknowledged, and reports
// whether they have acknowledged all responses.
func (w *world) acked() (versions string, all bool) {
	all = true
	for _, c := range w.bridges[0].Status().Clients {
		for _, t := range c.Types {
			all = all && !t.Pending
			versions += t.Acked + " "
		}
	}

	return versions, all
}

// noFailure makes calls during the events, and at least atLeast calls. No call
// may fail. It returns the number of answers by instance.
func (w *world) noFailure(c caller, o order, atLeast int, events ...func()) (by map[string]int) {
	w.t.Helper()

	w.eventually(c, o, "calls answered", answered)

	var happened atomic.Bool

	made := 0
	failed := map[string]int{}
	slowest := 0.0
	by = map[string]int{}

	o.At = 8
	done := make(chan struct{})
	go func() {
		defer close(done)

		for made < atLeast || !happened.Load() {
			out := c.call(o)
			for name, n := range out.By {
				made += n
				by[name] += n
			}

			for text, n := range out.Errors {
				made += n
				failed[text] += n
			}

			slowest = max(slowest, out.Most)
		}
	}()

	for _, event := range events {
		event()
	}

	happened.Store(true)
	<-done

	if len(failed) > 0 {
		w.t.Errorf("%d calls had the errors %v, want none", made, failed)
	}

	w.t.Logf("%d calls, the slowest took %v", made,
		time.Duration(slowest*1e6).Round(time.Millisecond))

	return by
}

// If a live config is too large for xDS, the previous one stays in force, and
// changes of endpoints still reach clients. After a restart the description's
// config is in force. A description that is too large is an error.
func TestServiceConfigTooLarge(t *testing.T) {
	w := newWorld(t, "")
	w.add("a")
	w.add("b")
	w.set(policy(`"drain":["b"]`))
	c := w.goClient("")
	w.eventually(c, calls(20), "b drained", only("a"))

	names := make([]string, 5050)
	for i := range names {
		names[i] = fmt.Sprintf(`{"service":"s%d"}`, i)
	}

	large := `{"methodConfig":[{"name":[` + strings.Join(names, ",") + `],"timeout":"1s"}]}`
	w.set(large)

	kit.Eventually(t, "the config is refused", func() bool {
		err := w.bridges[0].Status().Hosts[0].Err
		return err != nil && strings.Contains(err.Error(), "configure fewer methods")
	})

	w.add("c")
	w.eventually(c, calls(20), "c known and b drained", only("a", "c"))
	w.restart()
	w.eventually(c, calls(20), "the policy of the description", only("a", "b", "c"))

	_, err := xds.NewServer(w.registry,
		[]*runtime.ServiceDesc{{Key: "a", Authority: "a", ServiceConfig: large}})
	if err == nil || !strings.Contains(err.Error(), "configure fewer methods") {
		t.Errorf("NewServer with a description that is too large: %v, want an error with \"configure fewer methods\"", err)
	}
}

// A service with 128 lanes has a cluster for each lane. grpc-go sends a request
// for each cluster before it reads another response, which must not block the
// bridge.
func TestManyLanes(t *testing.T) {
	w := newWorld(t, policy(`"route":[{"label":"lane"}]`))
	w.add("a")

	var ops []clientv3.Op
	for i := range 128 {
		key := fmt.Sprintf("%s%s/pod-%d", w.namespace, w.desc.Key, i)
		ops = append(ops, clientv3.OpPut(key,
			fmt.Sprintf(`{"Addr":"127.1.0.%d:1","Metadata":{"lane":"lane-%d"}}`, i, i)))
	}

	_, err := etcd.Admin().Txn(kit.Context(t)).Then(ops...).Commit()
	kit.Must(t, err)
	o := calls(5)
	o.Wait = true
	o.Timeout = int(time.Minute / time.Millisecond) // grpc-go takes some seconds
	w.eventually(w.goClient(""), o, "the base", only("a"))
}

// While the bridge is down, an instance in a new lane joins, so that clients
// must learn a new cluster. Before and after that, calls of a strict lane reach
// only its instance, and calls for the leader reach only the leader.
func TestRestart_CallsStayInTheirLane(t *testing.T) {
	w := newWorld(t,
		policy(`"route":[{"lane":"beta","match":{"version":"v2"},"strict":true},{"label":"lane"}]`))
	w.desc.Extension = leader.Methods{"/acme.Echo/Lead"}
	w.restart()
	c := w.goClient("")
	beta := calls(100).with("etcd-lane", "beta")
	led := calls(100).to("/acme.Echo/Lead")
	w.add("leader", runtime.WithVersion("v1"))

	// the other servers start when there is a leader
	w.eventually(c, led, "the leader", only("leader"))
	w.add("beta", runtime.WithVersion("v2"))
	w.addEntry("base", `"grpc_methods":"acme.Echo/Lead,Say"`)
	w.eventually(c, calls(20), "the base", only("leader", "base"))
	w.eventually(c, beta, "the strict lane", only("beta"))
	var restarted atomic.Bool
	var calling sync.WaitGroup
	calling.Go(func() {
		for !restarted.Load() {
			if o := c.call(beta); !only("beta")(o) {
				t.Errorf("calls of the strict lane: %+v, want all answered by beta", o)
			}
		}
	})

	by := w.noFailure(c, led, 500, func() {
		w.bridges[0].stop()
		w.put(&instance{name: "pr-1", addr: "127.9.9.1:1"}, `"lane":"pr-1"`)
		w.restart()
		w.acknowledged()
	})

	restarted.Store(true)
	calling.Wait()

	if len(by) != 1 || by["leader"] == 0 {
		t.Errorf("calls for the leader reached %v, want only the instance leader", by)
	}
}

// If etcd has no entries when the bridge restarts, as after leases have
// expired, a client that reconnects keeps its endpoints for the grace.
func TestRestart_WithoutEndpoints(t *testing.T) {
	w := newWorld(t, "")
	w.addEntry("a", `"grpc_methods":"acme.Echo/Say"`)
	c := w.goClient("")
	w.eventually(c, calls(20), "a", only("a"))

	w.bridges[0].stop()
	kit.Must(t, w.registry.Remove(kit.Context(t), w.desc.Key, "a"))
	w.restart()

	kit.Eventually(t, "the client has reconnected to the bridge", func() bool {
		hosts := w.bridges[0].Status().Hosts
		clients := w.bridges[0].Status().Clients

		return len(hosts) == 1 && hosts[0].Known && len(clients) == 1 && len(clients[0].Types) == 4
	})

	if o := c.call(calls(20)); !only("a")(o) {
		t.Errorf("calls after the restart: %+v, want all answered by a", o)
	}

	w.eventually(c, calls(1), "the client drops the endpoints", func(o outcome) bool {
		return len(o.Errors) > 0
	})
}

// A bridge that restarts while etcd is down gives new clients the endpoints of
// its snapshots. Clients that reconnect keep their resources, since snapshots
// have no leader and may be stale.
func TestRestart_SnapshotsAreForNewClients(t *testing.T) {
	w := newWorld(t, "")
	w.set(policy(`"drain":["drained"]`))
	w.desc.Extension = leader.Methods{"/acme.Echo/Lead"}
	w.add("leader")
	w.addEntry("drained", `"grpc_methods":"acme.Echo/Lead,Say"`)
	dir := t.TempDir()
	w.restart(runtime.WithSnapshotDir(dir))
	c := w.goClient("")
	w.eventually(c, calls(20), "the instance that is not drained", only("leader"))
	w.eventually(c, calls(20).to("/acme.Echo/Lead"), "the leader", only("leader"))

	kit.Eventually(t, "there is a snapshot", func() bool {
		files, err := os.ReadDir(dir)
		return err == nil && len(files) > 0
	})

	etcd.Members()[0].Cut()

	defer etcd.Members()[0].Restore()

	w.restart(runtime.WithSnapshotDir(dir))
	w.eventually(w.goClient(""), calls(20), "a new client's calls are answered",
		answered)
	kit.Eventually(t, "the client reconnects to the bridge", func() bool {
		return len(w.bridges[0].Status().Clients) > 1
	})

	for _, method := range []string{"/acme.Echo/Say", "/acme.Echo/Lead"} {
		if o := c.call(calls(20).to(method)); !only("leader")(o) {
			t.Errorf("calls of %s: %+v, want all answered by leader", method, o)
		}
	}
}
