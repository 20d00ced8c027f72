package xds

import (
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// The bridge restarts while instances of other lanes join, so that clients must learn new clusters.
// Calls of a strict lane and for the leader go nowhere else in that time, and none fails.
func TestRestart_CallsStayInTheirLane(t *testing.T) {
	w := newWorld(t, policy(`"route":[{"lane":"beta","match":{"version":"v2"},"strict":true},{"label":"lane"}]`))
	w.desc.Leader = []string{"/acme.Echo/Lead"}
	w.restart()
	c, beta, led := w.goClient(""), calls(100).with("etcd-lane", "beta"), calls(100).to("/acme.Echo/Lead")
	w.add("leader", runtime.WithVersion("v1"))
	eventually(t, c, led, "the leader", only("leader")) // before there is another candidate
	w.add("beta", runtime.WithVersion("v2"))
	w.addServing("base", "acme.Echo/Lead,Say")
	eventually(t, c, calls(20), "the base", only("leader", "base"))
	eventually(t, c, beta, "the strict lane", only("beta"))
	var restarted atomic.Bool
	var calling sync.WaitGroup
	calling.Go(func() {
		for !restarted.Load() {
			if o := c.call(beta); !only("beta")(o) {
				t.Errorf("calls of the strict lane: %+v", o)
			}
		}
	})
	by := w.noFailure(c, led, 500, func() {
		w.bridges[0].stop()
		_, err := etcd.Admin().Put(kit.Bounded(t, soon), w.namespace+w.desc.Key+"/pr-1", `{"Addr":"127.9.9.1:1","Metadata":{"lane":"pr-1"}}`)
		kit.Must(t, err)
		w.restart()
		w.told()
	})
	restarted.Store(true)
	calling.Wait()
	if len(by) != 1 || by["leader"] == 0 {
		t.Errorf("calls for the leader reached %v", by)
	}
}

// Etcd has no endpoints when the bridge comes back, as after leases have expired. A client that reconnects keeps its state.
func TestRestart_WithoutEndpoints(t *testing.T) {
	w := newWorld(t, "")
	w.addServing("a", "acme.Echo/Say")
	c := w.goClient("")
	eventually(t, c, calls(20), "a", only("a"))
	w.bridges[0].stop()
	kit.Must(t, w.registry.Remove(kit.Bounded(t, soon), w.desc.Key, "a"))
	w.restart()
	kit.Eventually(t, soon, "etcd and the client are there", func() bool {
		hosts, clients := w.bridges[0].Status().Hosts, w.bridges[0].Status().Clients
		return len(hosts) == 1 && hosts[0].Known && len(clients) == 1 && len(clients[0].Types) == 4
	})
	if o := c.call(calls(20)); !only("a")(o) {
		t.Errorf("calls: %+v", o)
	}
}

// A bridge that restarts while etcd is down serves new clients from its snapshots. Clients that
// reconnect keep their state: snapshots have no leader and may be stale.
func TestRestart_SnapshotsAreForNewClients(t *testing.T) {
	w := newWorld(t, "")
	w.set(policy(`"drain":["drained"]`))
	w.desc.Leader = []string{"/acme.Echo/Lead"}
	w.add("leader")
	w.addServing("drained", "acme.Echo/Lead,Say")
	dir := t.TempDir()
	w.restart(runtime.WithSnapshotDir(dir))
	c := w.goClient("")
	eventually(t, c, calls(20), "those that are not drained", only("leader"))
	eventually(t, c, calls(20).to("/acme.Echo/Lead"), "the leader", only("leader"))
	kit.Eventually(t, soon, "there is a snapshot", func() bool {
		files, err := os.ReadDir(dir)
		return err == nil && len(files) > 0
	})
	etcd.Members()[0].Cut()
	defer etcd.Members()[0].Restore()
	w.restart(runtime.WithSnapshotDir(dir))
	eventually(t, w.goClient(""), calls(20), "a new client's calls are answered", func(o outcome) bool { return len(o.Errors) == 0 })
	kit.Eventually(t, soon, "the client comes back", func() bool { return len(w.bridges[0].Status().Clients) > 1 })
	for _, method := range []string{"/acme.Echo/Say", "/acme.Echo/Lead"} {
		if o := c.call(calls(20).to(method)); !only("leader")(o) {
			t.Errorf("%s: %+v", method, o)
		}
	}
}
