package balancer

import (
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// startedAt returns the metadata of a server that started at a time.
func startedAt(at time.Time) map[string]string {
	return map[string]string{endpoint.StartedName: strconv.FormatInt(at.Unix(), 10)}
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
