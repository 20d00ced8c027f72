package balancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

var errFull = errors.New("none is free")

// budget returns a budget, and how often it was said to be reached.
func budget(limit int) (*descriptors.Budget, *atomic.Int64) {
	reached := new(atomic.Int64)
	return descriptors.NewBudget(limit, errFull, func(int) { reached.Add(1) }), reached
}

func newBoundBench(t *testing.T, limit int) *bench {
	b := newBench(t)
	shared, _ := budget(limit)
	_ = hand(b.policy, nil, &attr.State{Client: &attr.Client{TargetsOnly: true, Connections: shared}, Endpoints: ends("a", "b", "c")})
	settle(b.policy, b.cc)
	return b
}

func TestS4_SubConnsBeyondTheBoundWait(t *testing.T) {
	b := newBoundBench(t, 1)
	owner := b.child()
	first, second, other := b.subConn(owner, at("a:1")), b.subConn(owner, at("b:1")), b.subConn(b.child(), at("b:1"))
	first.Connect()
	b.want(first, "the first", "CONNECTING", "READY")
	second.Connect()
	b.want(second, "one beyond the bound", "CONNECTING", "TRANSIENT_FAILURE none is free")
	b.want(other, "one that does not connect", []string{}...)
	other.Connect()
	b.want(other, "a late one", "CONNECTING", "TRANSIENT_FAILURE none is free")
	if n := b.cc.made[1].connects; n > 0 {
		t.Errorf("it is connected %d times", n)
	}

	real := b.cc.made[0]
	real.set(connectivity.Idle, nil)
	b.want(first, "one that ends", "IDLE")
	first.Connect()
	b.want(first, "and connects again", "CONNECTING", "READY")
	b.want(second, "meanwhile", []string{}...)

	real.set(connectivity.TransientFailure, errors.New("refused"))
	b.want(first, "one that fails", "TRANSIENT_FAILURE refused")
	b.want(second, "then", "CONNECTING", "READY")
	b.want(other, "then", "CONNECTING", "READY")
	real.set(connectivity.Idle, nil)
	b.want(first, "after its back-off", "IDLE")
	first.Connect()
	b.want(first, "has lost its place", "CONNECTING", "TRANSIENT_FAILURE none is free")

	second.Shutdown()
	b.want(second, "shut down", "SHUTDOWN")
	b.want(first, "while the connection is used", []string{}...)
	other.Shutdown()
	b.want(other, "shut down", "SHUTDOWN")
	b.want(first, "when it is not", "CONNECTING", "READY")
	if got := addrs(b.cc.open()); got != "a" {
		t.Errorf("open: %s: what lingers is in the way", got)
	}
}

func TestS4_WhatLingersMakesRoom(t *testing.T) {
	b := newBoundBench(t, 1)
	first, second := b.subConn(b.child(), at("a:1")), b.subConn(b.child(), at("b:1"))
	first.Connect()
	b.want(first, "the first", "CONNECTING", "READY")
	first.Shutdown()
	b.want(first, "shut down", "SHUTDOWN")
	if got := addrs(b.cc.open()); got != "ab" {
		t.Fatalf("open: %s: it does not linger", got)
	}
	second.Connect()
	b.want(second, "the next", "CONNECTING", "READY")
	if got := addrs(b.cc.open()); got != "b" {
		t.Errorf("open: %s", got)
	}

	// It is used again before it is asked for.
	third, fourth := b.subConn(b.child(), at("c:1")), b.subConn(b.child(), at("b:1"))
	second.Shutdown()
	fourth.Shutdown()
	b.policy.calls.Lock()
	third.Connect()
	again := b.subConn(b.child(), at("b:1"))
	again.Connect()
	b.policy.calls.Unlock()
	b.want(again, "one that is used again", "CONNECTING", "READY")
	b.want(third, "one that waited for it", "TRANSIENT_FAILURE none is free")
	if got := addrs(b.cc.open()); got != "bc" {
		t.Errorf("open: %s", got)
	}
}

func TestS4_WhoLeavesNoLongerWaits(t *testing.T) {
	b := newBoundBench(t, 1)
	owner := b.child()
	first, second := b.subConn(owner, at("a:1")), b.subConn(owner, at("b:1"))
	first.Connect()
	second.Connect()
	settle(b.policy, b.cc)
	second.Shutdown()
	again := b.subConn(b.child(), at("b:1"))
	real := b.cc.made[0]
	real.set(connectivity.TransientFailure, errors.New("gone"))
	settle(b.policy, b.cc)
	if n := b.cc.made[1].connects; n > 0 {
		t.Errorf("what nobody wants is connected %d times", n)
	}
	again.Connect()
	b.want(again, "one that comes again", "CONNECTING", "READY")
	moves := b.subConn(owner, at("c:1"))
	moves.Connect()
	b.want(moves, "beyond the bound", "CONNECTING", "TRANSIENT_FAILURE none is free")
	moves.UpdateAddresses([]resolver.Address{at("d:1")})
	b.want(moves, "with another address", "TRANSIENT_FAILURE none is free")
	if n := b.cc.made[len(b.cc.made)-1].connects; n > 0 {
		t.Errorf("it is connected %d times", n)
	}
}

// dead returns endpoints at which nobody listens.
func dead(n int) []*server {
	var all []*server
	for i := range n {
		s := &server{Endpoint: endpoint.Endpoint{Instance: fmt.Sprintf("dead%04d", i), Addr: fmt.Sprintf("127.1.%d.%d:1", i/250, 1+i%250)}}
		all = append(all, s)
	}
	return all
}

// openNow waits until n of servers are connected to.
func openNow(t *testing.T, servers []*server, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d connections are open", n), func() bool {
		_, open := connections(servers)
		return open == n
	})
}

func TestS4_CallsGoOverWhatMayBeOpen(t *testing.T) {
	for _, policy := range []string{`{}`, `{"childPolicy":[{"least_request_experimental":{}}]}`, `{"childPolicy":[{"etcd_weighted":{}}]}`} {
		servers := serveAll(t, specs(40, "i%02d v%d z%d")...)
		shared, reached := budget(8)
		r := newRig(t, &attr.Client{Connections: shared})
		r.update(policy, servers)
		load := r.load("/s.A/M")
		openNow(t, servers, 8)
		called := make(map[string]bool)
		eventually(t, "all of them are called", func() bool {
			addr, err := r.call(context.Background(), "/s.A/M")
			if err != nil {
				t.Fatal(err)
			}
			called[addr] = true
			return len(called) == 8
		})
		if n := reached.Load(); n != 1 {
			t.Errorf("%s: said %d times to be reached", policy, n)
		}

		// Those that leave make room for others.
		first := without(servers, func(s *server) bool { return s.open.Load() == 0 })
		stayed := first[:4]
		left := without(servers, func(s *server) bool { return slices.Contains(first[4:], s) })
		r.update(policy, left)
		openNow(t, left, 8)
		few := append(slices.Clone(stayed[:2]), without(left, func(s *server) bool { return s.open.Load() > 0 })[:6]...)
		r.update(policy, few)
		openNow(t, few, 8)
		load.stop()
		openNow(t, servers, 8)
		if made, _ := connections(servers); made > 24 {
			t.Errorf("%s: %d connections were made", policy, made)
		}
		_ = r.conn.Close()
	}
}

// TestS4_WhatIsKnownToBeGoodStays has 600 dead entries put beside a set under load.
func TestS4_WhatIsKnownToBeGoodStays(t *testing.T) {
	servers := serveAll(t, specs(8, "i%02d v%d z%d")...)
	shared, reached := budget(16)
	r := newRig(t, &attr.Client{Connections: shared})
	r.update(`{}`, servers)
	r.connected(servers)
	load := r.load("/s.A/M")
	r.update(`{}`, append(dead(600), servers...))
	eventually(t, "the bound is reached", func() bool { return reached.Load() > 0 })
	late := serve(t, "late")
	r.update(`{}`, append(dead(60), append(servers, late)...))
	openNow(t, []*server{late}, 1) // behind the dead ones
	load.stop()
	if made, open := connections(servers); made != 8 || open != 8 {
		t.Errorf("%d connections are open, %d were made", open, made)
	}
}

func TestS4_ClientsOfAServiceShareItsBudget(t *testing.T) {
	servers := serveAll(t, specs(40, "i%02d v%d z%d")...)
	shared, _ := budget(16)
	one, two := newRig(t, &attr.Client{Connections: shared}), newRig(t, &attr.Client{Connections: shared})
	one.update(`{}`, servers)
	openNow(t, servers, 14)
	two.update(`{}`, servers) // one place is kept for it
	for range 20 {
		if _, err := two.call(context.Background(), "/s.A/M"); err != nil {
			t.Fatal(err)
		}
	}
	if _, open := connections(servers); open != 15 {
		t.Errorf("%d connections are open", open)
	}
	load := two.load("/s.A/M")
	_ = one.conn.Close()
	openNow(t, servers, 14)
	load.stop()
}

func TestS4_ACallToAnInstanceGoesFirst(t *testing.T) {
	servers := serveAll(t, specs(40, "i%02d v%d z%d")...)
	shared, _ := budget(16)
	r := newRig(t, &attr.Client{Connections: shared})
	r.update(`{}`, servers)
	openNow(t, servers, 14)
	var beyond []*server
	for _, s := range servers {
		if s.open.Load() == 0 {
			beyond = append(beyond, s)
		}
	}
	for range 3 { // one place is kept for it
		if addr, err := r.call(WithTarget(context.Background(), beyond[0].Instance), "/s.A/M"); err != nil || addr != beyond[0].Addr {
			t.Fatalf("the first: %s, %v", addr, err)
		}
	}
	for range 3 {
		_, err := r.call(WithTarget(context.Background(), beyond[1].Instance), "/s.A/M")
		if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != fmt.Sprintf("etcd: instance %q at %q: %v", beyond[1].Instance, beyond[1].Addr, errFull) {
			t.Errorf("the second: %v", err)
		}
	}
	answered := make(chan error, 1)
	go func() {
		_, err := r.call(WithTarget(context.Background(), beyond[1].Instance), "/s.A/M", grpc.WaitForReady(true))
		answered <- err
	}()
	gone := func(s *server) bool { return s == beyond[0] }
	r.update(`{}`, without(servers, gone))
	if err := <-answered; err != nil {
		t.Errorf("one that waits: %v", err)
	}
}

func without(servers []*server, gone func(*server) bool) (left []*server) {
	for _, s := range servers {
		if !gone(s) {
			left = append(left, s)
		}
	}
	return left
}

// TestS4_LazyPoliciesWithinTheBound has policies that connect when they are called find a connection.
func TestS4_LazyPoliciesWithinTheBound(t *testing.T) {
	for _, policy := range []string{`{"childPolicy":[{"pick_first":{}}]}`, `{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`} {
		servers := append(dead(20), serveAll(t, specs(20, "i%02d v%d z%d")...)...)
		shared, _ := budget(3)
		r := newRig(t, &attr.Client{Connections: shared})
		r.update(policy, servers)
		for i := range 60 {
			ctx := WithAffinity(context.Background(), fmt.Sprint(i))
			if _, err := r.call(ctx, "/s.A/M", grpc.WaitForReady(true)); err != nil {
				t.Fatalf("%s: %v", policy, err)
			}
		}
		if _, open := connections(servers); open < 1 || open > 3 {
			t.Errorf("%s: %d connections are open", policy, open)
		}
		_ = r.conn.Close()
	}
}
