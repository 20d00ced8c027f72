package balancer

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

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

// timed is a balancer over a fake connection, at a time that the test sets.
type timed struct {
	*policy
	cc  *fakeConn
	now time.Time
}

func newTimed(t *testing.T) *timed {
	m := &timed{cc: &fakeConn{}, now: time.Now()}
	m.policy = newPolicy(m.cc, balancer.BuildOptions{})
	m.policy.now = func() time.Time { return m.now }
	m.spawn = spawnOf(m.cc)
	t.Cleanup(m.Close)
	return m
}

// hand hands a config and a state down, after which some time passes.
func (m *timed) hand(c *config, s *attr.State, pass time.Duration) {
	state := attr.SetState(resolver.State{Endpoints: s.Endpoints}, s)
	_ = m.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: c})
	m.pass(pass)
}

func (m *timed) pass(d time.Duration) {
	settle(m.policy, m.cc)
	m.now = m.now.Add(d)
	m.do(func() { m.core.reselect(m.now) })
	settle(m.policy, m.cc)
}

// TestStatsAreKeptWhileIdle has gRPC become idle, and addresses leave before that and meanwhile.
func TestStatsAreKeptWhileIdle(t *testing.T) {
	client := &attr.Client{Stats: new(picking.Memory)}
	config := mustConfig(t, `{`+peakConfig+`}`)
	idled := func(fleet ...string) map[string]*picking.Stats {
		m := newTimed(t)
		m.hand(config, &attr.State{Client: client, Endpoints: ends(fleet...)}, 0)
		all := make(map[string]*picking.Stats)
		for addr, x := range m.core.conns {
			all[addr] = x.stats
		}
		m.Close()
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

// TestStats_CallsUnderWayCountWhereTheyAre has an address with a call under way, as many as may be, be without a connection
// for a while, or become the other cluster's.
func TestStats_CallsUnderWayCountWhereTheyAre(t *testing.T) {
	const bound = `"maxConcurrentRequests":1`
	for name, meanwhile := range map[string]func(m *timed, bounded *config, s attr.State) attr.State{
		"drained": func(m *timed, _ *config, s attr.State) attr.State {
			m.hand(mustConfig(t, `{`+bound+`,"drain":["a"]}`), &s, linger)
			return s
		},
		"left and came back": func(m *timed, bounded *config, s attr.State) attr.State {
			back := s
			s.Endpoints = ends("b")
			m.hand(bounded, &s, linger)
			m.hand(bounded, &s, 0)
			return back
		},
		"moved": func(_ *timed, _ *config, s attr.State) attr.State {
			s.Endpoints, s.Away = ends("b"), &attr.State{Endpoints: ends("a")}
			return s
		},
	} {
		m, bounded := newTimed(t), mustConfig(t, `{`+bound+`}`)
		stats := new(picking.Memory)
		s := attr.State{Client: &attr.Client{Stats: stats}, Endpoints: ends("a", "b")}
		m.hand(bounded, &s, 0)
		for range 2 {
			if _, _, err := m.cc.begin(t.Context(), "/s.A/M"); err != nil {
				t.Fatal(err)
			}
		}
		s = meanwhile(m, bounded, s)
		m.hand(bounded, &s, 0)
		if name == "moved" {
			m.cc.last("b:1").set(connectivity.TransientFailure, errors.New("refused"))
			m.pass(0)
		}
		if addr, _, err := m.cc.begin(t.Context(), "/s.A/M"); err == nil || !strings.Contains(err.Error(), "max_concurrent_requests") {
			t.Errorf("%s: another call goes to %q, %v", name, addr, err)
		}
	}
}

// TestSlowStart_GoesOnThroughADrain drains an instance for longer than its connection stays.
func TestSlowStart_GoesOnThroughADrain(t *testing.T) {
	m := newTimed(t)
	s := attr.State{Client: &attr.Client{}, Endpoints: ends("a", "b")}
	m.hand(mustConfig(t, `{}`), &s, 0)
	before, subConn := m.core.conns["a:1"], m.cc.last("a:1")
	m.hand(mustConfig(t, `{"drain":["a"]}`), &s, linger)
	m.hand(mustConfig(t, `{}`), &s, 0)
	if after := m.core.conns["a:1"]; m.cc.last("a:1") == subConn || after.stats != before.stats {
		t.Error("the connection is the same, or what was known of its address is forgotten")
	}
}
