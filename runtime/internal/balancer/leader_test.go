package balancer

import (
	"errors"
	"testing"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/election"
)

func TestLeaderPicks(t *testing.T) {
	const method = "/a.B/C"
	client := &attr.Client{LeaderMethods: map[string]struct{}{method: {}}}
	refused := errors.New("refused")
	p, cc := newTestPolicy(t)
	cc.down = map[string]error{"b:1": refused}
	for _, tt := range []struct {
		leader string
		want   error
	}{{"", balancer.ErrNoSubConnAvailable}, {"a", nil}, {"b", refused}, {"c", balancer.ErrNoSubConnAvailable}, {"a", nil}} {
		state := &attr.State{Client: client, Endpoints: ends("a", "b"), Leader: attr.Leader{Instance: tt.leader, Token: 7}, Pending: tt.leader == "c"}
		_ = hand(p, nil, state)
		info := balancer.PickInfo{FullMethodName: method, Ctx: t.Context()}
		_, _ = stateOf(cc).Picker.Pick(info) // names the leader
		settle(p, cc)
		result, err := stateOf(cc).Picker.Pick(info)
		if !errors.Is(err, tt.want) || err == nil && result.SubConn.(*fakeSubConn).addrs[0].Addr != tt.leader+":1" {
			t.Errorf("to %q: %v, want %v", tt.leader, err, tt.want)
		}
		if got := result.Metadata.Get(election.TokenHeader); err == nil && (len(got) != 1 || got[0] != "7") {
			t.Errorf("to %q: token %q", tt.leader, got)
		}
		if result, err := stateOf(cc).Picker.Pick(balancer.PickInfo{FullMethodName: "/a.B/D", Ctx: t.Context()}); err != nil || result.Metadata != nil {
			t.Errorf("a call for anybody: %v, %v", result.Metadata, err)
		}
		if n := testing.AllocsPerRun(100, func() { _, _ = stateOf(cc).Picker.Pick(info) }); n != 0 && err == nil {
			t.Errorf("a pick makes %v allocations", n)
		}
	}
	if leaderOf(&attr.Client{}, attr.Leader{Instance: "a", Token: 7}).has(method) {
		t.Error("a connection without such methods has a leader")
	}
}
