package balancer

import (
	"errors"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

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
