package balancer

import (
	"errors"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

func TestLeaderPicks(t *testing.T) {
	const method = "/a.B/C"
	client := &attr.Client{LeaderMethods: map[string]struct{}{method: {}}}
	if leaderOf(&attr.Client{}, attr.Leader{Instance: "a", Token: 7}).has(method) {
		t.Error("a connection without such methods has a leader")
	}
	p := &policy{stations: newStations("acme/user")}
	ready := &target{instance: "a"}
	ready.state.Store(&targetState{connectivity: connectivity.Ready})
	refused := errors.New("refused")
	broken := &target{instance: "b", addresses: []resolver.Address{{Addr: "127.0.0.1:1"}}}
	broken.state.Store(&targetState{connectivity: connectivity.TransientFailure, err: refused})
	p.targets.policy, p.targets.byInstance = p, map[string]*target{"a": ready, "b": broken}
	for instance, want := range map[string]error{"": balancer.ErrNoSubConnAvailable, "a": nil, "b": refused} {
		l := leaderOf(client, attr.Leader{Instance: instance, Token: 7})
		result, err := l.pick(&p.targets)
		if !l.has(method) || l.has("/a.B/D") || !errors.Is(err, want) {
			t.Errorf("to %q: %v, want %v", instance, err, want)
		}
		if got := result.Metadata.Get(election.TokenHeader); err == nil && (len(got) != 1 || got[0] != "7") {
			t.Errorf("to %q: token %q", instance, got)
		}
	}
	out := &picker{policy: p, leader: leaderOf(client, attr.Leader{Instance: "a", Token: 7})}
	info := balancer.PickInfo{FullMethodName: method, Ctx: t.Context()}
	if n := testing.AllocsPerRun(100, func() { _, _ = out.Pick(info) }); n != 0 {
		t.Errorf("a pick makes %v allocations", n)
	}
}
