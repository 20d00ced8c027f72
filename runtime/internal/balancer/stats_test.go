package balancer

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// TestPeakOverServers calls real servers, of which one does not serve what is called.
func TestPeakOverServers(t *testing.T) {
	for _, config := range []string{
		`{"childPolicy":[{"etcd_peak_ewma":{}}]}`,
		`{"childPolicy":[{"etcd_peak_ewma":{}}],"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}]}`,
	} {
		servers := serveAll(t, "a v1", "b v2", "c v1", "d v2 - s.A/Other")
		r := newRig(t, &attr.Client{})
		r.update(config, servers)
		r.connected(servers[:3])
		for range 200 {
			if _, err := r.call(context.Background(), "/s.A/M"); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range servers[:3] {
			if s.calls.Load() == 0 {
				t.Errorf("%s: server %d was never called", config, i)
			}
		}
	}
}

// startedAt returns the metadata of a server that started at a time.
func startedAt(at time.Time) map[string]string {
	return map[string]string{endpoint.StartedName: strconv.FormatInt(at.Unix(), 10)}
}

// TestSlowStartOverServers has a new server beside two old ones, over a connection that stays as the slow start comes
// and goes.
func TestSlowStartOverServers(t *testing.T) {
	servers := serveAll(t, "a", "b", "c")
	servers[0].Metadata, servers[1].Metadata = startedAt(time.Now().Add(-time.Hour)), nil
	servers[2].Metadata = startedAt(time.Now())
	r := newRig(t, &attr.Client{})
	count := func() (calls [3]int64) {
		for i, s := range servers {
			calls[i] = -s.calls.Load()
		}
		for range 300 {
			if _, err := r.call(context.Background(), "/s.A/M"); err != nil {
				t.Fatal(err)
			}
		}
		for i, s := range servers {
			calls[i] += s.calls.Load()
		}
		return calls
	}
	for range 2 {
		r.update(`{"slowStart":{"window":"3600s"}}`, servers)
		// 300 * 0.1/2.1, once the client has seen that every connection is ready
		eventually(t, "the new one gets its small share", func() bool { c := count(); return c[2] >= 10 && c[2] <= 20 && c[0] > 100 && c[1] > 100 })
		r.update(`{}`, servers)
		eventually(t, "the new one gets its full share", func() bool { return count()[2] == 100 })
	}
	if made, open := connections(servers); made != 3 || open != 3 {
		t.Errorf("%d connections were made, %d are open", made, open)
	}
}

// TestStatsAreKeptWhileIdle has gRPC become idle, and addresses leave before that and meanwhile.
func TestStatsAreKeptWhileIdle(t *testing.T) {
	client := &attr.Client{}
	config := mustConfig(t, `{`+peakConfig+`}`)
	idled := func(fleet ...string) map[string]*picking.Stats {
		p, cc := newPolicy(t)
		_ = hand(p, config, &attr.State{Client: client, Endpoints: ends(fleet...)})
		settle(p, cc)
		all := make(map[string]*picking.Stats)
		for addr, x := range p.core.conns {
			all[addr] = x.stats
		}
		p.Close()
		return all
	}
	first := idled("a", "b")
	if second := idled("a", "c"); second["a:1"] != first["a:1"] {
		t.Error("what was measured is forgotten")
	}
	idled("a", "c")
	if third := idled("a", "b"); third["a:1"] != first["a:1"] || third["b:1"] == first["b:1"] {
		t.Error("what left is remembered, or what stayed is not")
	}
}
