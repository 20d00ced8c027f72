package balancer

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestFallback_WhatIsRenewedIsWaitedFor has the only server at home be connected to or asked for its health anew: calls wait
// for it, and leave once that takes long, or it refuses.
func TestFallback_WhatIsRenewedIsWaitedFor(t *testing.T) {
	const its, other, waits = "a:1", "b:1", ""
	end := func(s *fakeSubConn) { s.set(connectivity.Idle, nil) }
	asked := func(s *fakeSubConn) { s.health(balancer.SubConnState{ConnectivityState: connectivity.Connecting}) }
	well := func(s *fakeSubConn) { s.health(balancer.SubConnState{ConnectivityState: connectivity.Ready}) }
	for _, tt := range []struct {
		name           string
		hangs, refuses bool
		renew, then    func(*fakeSubConn)
		after          time.Duration
		at, later      string
	}{
		{"its connection ends", true, false, end, func(s *fakeSubConn) { s.set(connectivity.Ready, nil) }, 0, waits, its},
		{"... and hangs", true, false, end, nil, knownWithin, waits, other},
		{"... and refuses", false, true, end, nil, 0, other, other},
		{"it is asked for its health", false, false, asked, well, 0, waits, its},
		{"... and says nothing", false, false, asked, nil, knownWithin, waits, other},
	} {
		m := newTimed(t)
		m.cc.hangs, m.cc.down = make(map[string]bool), make(map[string]error)
		left := false
		client := &attr.Client{CallsLeave: func(leave bool) { left = left || leave }}
		m.hand(nil, &attr.State{Client: client, Endpoints: ends("a"), Away: &attr.State{Endpoints: ends("b")}}, time.Second)
		where := func() (addr string) {
			addr, _, _ = m.cc.begin(t.Context(), "/s.A/M")
			return addr
		}
		if got := where(); got != its {
			t.Fatalf("%s: at first calls go to %q", tt.name, got)
		}
		m.cc.hangs[its] = tt.hangs
		if tt.refuses {
			m.cc.down[its] = errors.New("refused")
		}
		s := m.cc.last(its)
		tt.renew(s)
		settle(m.policy, m.cc)
		if got := where(); got != tt.at || left != (tt.at == other) {
			t.Errorf("%s: calls go to %q, and have left: %v; want %q", tt.name, got, left, tt.at)
		}
		if tt.then != nil {
			tt.then(s)
		}
		m.pass(tt.after)
		if got := where(); got != tt.later || left != (tt.later == other) {
			t.Errorf("%s: later calls go to %q, and have left: %v; want %q", tt.name, got, left, tt.later)
		}
	}
}
