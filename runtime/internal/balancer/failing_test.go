package balancer

import (
	"errors"
	"hash/maphash"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestFailuresCostNothingWhileOthersServe has 200 endpoints fail again and again. Each is tried again after its pause, and
// where nothing else is left, calls hear why.
func TestFailuresCostNothingWhileOthersServe(t *testing.T) {
	const n, tries = 200, 3
	p, cc := newTestPolicy(t)
	fleet := bigFleet(n)
	for i := range fleet[1:] {
		cc.down[address(&fleet[1+i])] = errRefused
	}
	_ = hand(p, nil, &attr.State{Endpoints: fleet})
	settle(p, cc)
	for range tries - 1 {
		before := cc.states
		cc.revive()
		settle(p, cc)
		if made := cc.states - before; made > 0 {
			t.Errorf("%d pickers are made", made)
		}
	}
	for _, s := range cc.open() {
		if addr := s.addrs[0].Addr; cc.down[addr] != nil && s.connects != tries {
			t.Errorf("%s was tried %d times, want %d", addr, s.connects, tries)
		}
	}
	if state := stateOf(cc).ConnectivityState; state != connectivity.Ready {
		t.Errorf("the policy is %v", state)
	}
	cc.down[address(&fleet[0])] = errRefused
	cc.last(address(&fleet[0])).set(connectivity.Idle, nil)
	settle(p, cc)
	if _, err := cc.pick(t.Context(), "/s.A/M"); err == nil || !strings.Contains(err.Error(), errRefused.Error()) || stateOf(cc).ConnectivityState != connectivity.TransientFailure {
		t.Errorf("while all fail, %v: %v", stateOf(cc).ConnectivityState, err)
	}
	clear(cc.down)
	cc.revive()
	settle(p, cc)
	reached := map[string]bool{}
	for range n {
		addr, _ := cc.pick(t.Context(), "/s.A/M")
		reached[addr] = true
	}
	if len(reached) != n {
		t.Errorf("once all are up, %d are called", len(reached))
	}
}

// TestPending_WhatIsKnownServes has endpoints of an earlier time, while etcd is yet to answer. Those that can be reached serve.
// Where none can, calls wait rather than fail, until etcd has answered (H7).
func TestPending_WhatIsKnownServes(t *testing.T) {
	p, cc := newTestPolicy(t)
	cc.down["a:1"] = errRefused
	_ = hand(p, nil, &attr.State{Endpoints: ends("a", "b"), Pending: true})
	settle(p, cc)
	if addr, err := cc.pick(t.Context(), "/s.A/M"); err != nil || addr != "b:1" {
		t.Errorf("%s serves, %v", addr, err)
	}
	_ = hand(p, nil, &attr.State{Endpoints: ends("a"), Pending: true})
	settle(p, cc)
	cc.last("b:1").set(connectivity.Idle, nil)
	settle(p, cc)
	if _, err := cc.pick(t.Context(), "/s.A/M"); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		t.Errorf("while etcd is yet to answer: %v", err)
	}
	_ = hand(p, nil, &attr.State{Endpoints: ends("a")})
	settle(p, cc)
	if _, err := cc.pick(t.Context(), "/s.A/M"); err == nil || errors.Is(err, balancer.ErrNoSubConnAvailable) {
		t.Errorf("once etcd has answered: %v", err)
	}
}

// TestK4_ASubsetOfOneThatIsHeldAndDead has a call meet that the one endpoint of a subset has failed, before another is tried.
func TestK4_ASubsetOfOneThatIsHeldAndDead(t *testing.T) {
	p, cc := newTestPolicy(t)
	held := map[string]struct{}{"a:1": {}, "b:1": {}}
	_ = hand(p, nil, &attr.State{Client: &attr.Client{Subset: 1, Seed: maphash.MakeSeed()}, Endpoints: ends("a", "b"), Held: held})
	p.do(func() {
		for _, x := range p.core.conns {
			if p.core.isWanted(x) {
				p.core.changed(x, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: errRefused}, p.now())
			}
		}
		if _, err := cc.pick(t.Context(), "/s.A/M"); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
			t.Errorf("by the picker before: %v", err)
		}
	})
	settle(p, cc)
	if _, err := cc.pick(t.Context(), "/s.A/M"); err != nil {
		t.Error(err)
	}
}
