package balancer

import (
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
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
