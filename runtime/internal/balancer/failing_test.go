package balancer

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

var errRefused = errors.New("connection refused")

// newFailing returns a policy over n endpoints of which the first alone can be connected to, and counts how often all
// of them are worked out.
func newFailing(t *testing.T, endpoints []resolver.Endpoint) (*policy, *fakeConn, *atomic.Int64) {
	t.Helper()
	counting := countingBuilder{balancer.Get(roundrobin.Name), new(atomic.Int64)}
	balancer.Register(counting)
	hearsMeanwhile[counting.Name()] = true
	t.Cleanup(func() { delete(hearsMeanwhile, counting.Name()) })
	p, cc := newPolicy(t)
	for _, e := range endpoints[1:] {
		for _, a := range e.Addresses {
			cc.down[a.Addr] = errRefused
		}
	}
	config := mustConfig(t, `{"childPolicy":[{"counting_round_robin":{}}]}`)
	for _, known := range [][]resolver.Endpoint{endpoints[:1], endpoints} {
		if err := hand(p, config, &attr.State{Endpoints: known}); err != nil {
			t.Fatal(err)
		}
		settle(p, cc)
	}
	return p, cc, counting.updates
}

func instances(n int) []resolver.Endpoint {
	var specs []string
	for i := range n {
		specs = append(specs, fmt.Sprintf("i%03d", i))
	}
	return ends(specs...)
}

func stateOf(cc *fakeConn) balancer.State {
	cc.mu.Lock()
	defer cc.mu.Unlock()
	return cc.state
}

// retry has the pauses of all SubConns that failed end.
func retry(p *policy, cc *fakeConn) {
	for _, s := range cc.open() {
		s.mu.Lock()
		failed := s.state == connectivity.TransientFailure
		s.mu.Unlock()
		if failed {
			s.set(connectivity.Idle, nil)
		}
	}
	settle(p, cc)
}

// TestFailuresCostNothingWhileOthersServe has 200 endpoints fail again and again. What serves is not worked out anew,
// and each is tried again after its pause.
func TestFailuresCostNothingWhileOthersServe(t *testing.T) {
	const n, tries = 200, 3
	p, cc, updates := newFailing(t, instances(n))
	for range tries - 1 {
		retry(p, cc)
	}
	if got := updates.Load(); got > 10 {
		t.Errorf("all endpoints were worked out %d times", got)
	}
	for _, s := range cc.open() {
		if addr := s.addrs[0].Addr; cc.down[addr] != nil && s.connects != tries {
			t.Errorf("%s was tried %d times, want %d", addr, s.connects, tries)
		}
	}
	if s := stateOf(cc).ConnectivityState; s != connectivity.Ready {
		t.Errorf("the policy is %v", s)
	}
}

// TestFailuresAreToldWhenNothingServes ends the only connection for good: calls hear why there is no other.
func TestFailuresAreToldWhenNothingServes(t *testing.T) {
	for _, pauses := range []int{0, 1, 2} {
		p, cc, _ := newFailing(t, instances(5))
		for range pauses {
			retry(p, cc)
		}
		lost := cc.open()[0]
		cc.mu.Lock()
		cc.down[lost.addrs[0].Addr] = errRefused
		cc.mu.Unlock()
		lost.set(connectivity.Idle, nil)
		eventually(t, "the policy has failed", func() bool { // gRPC connects again in a goroutine
			settle(p, cc)
			return stateOf(cc).ConnectivityState == connectivity.TransientFailure
		})
		if _, err := stateOf(cc).Picker.Pick(balancer.PickInfo{Ctx: t.Context()}); err == nil || !strings.Contains(err.Error(), errRefused.Error()) {
			t.Errorf("after %d pauses a call fails by %v, want %v", pauses, err, errRefused)
		}
	}
}

// TestAnEndpointIsUsedThatFailedUntold has an endpoint come up whose failures were withheld.
func TestAnEndpointIsUsedThatFailedUntold(t *testing.T) {
	p, cc, updates := newFailing(t, instances(3))
	retry(p, cc)
	before := updates.Load()
	cc.mu.Lock()
	clear(cc.down)
	cc.mu.Unlock()
	retry(p, cc)
	if updates.Load() == before {
		t.Error("the policy did not hear of what is ready")
	}
	picked := make(map[balancer.SubConn]bool)
	for range 6 {
		result, err := stateOf(cc).Picker.Pick(balancer.PickInfo{Ctx: t.Context()})
		if err != nil {
			t.Fatal(err)
		}
		picked[result.SubConn] = true
	}
	if len(picked) != 3 {
		t.Errorf("calls go to %d endpoints, want 3", len(picked))
	}
}

// TestTheNextAddressIsTriedWhileOthersServe has an endpoint whose first address fails.
func TestTheNextAddressIsTriedWhileOthersServe(t *testing.T) {
	endpoints := instances(2)
	endpoints[1].Addresses = append([]resolver.Address{{Addr: "10.9.9.9:1"}}, endpoints[1].Addresses...)
	_, cc, _ := newFailing(t, endpoints)
	for _, a := range endpoints[1].Addresses {
		tried := false
		for _, s := range cc.made {
			tried = tried || s.addrs[0].Addr == a.Addr && s.connects > 0
		}
		if !tried {
			t.Errorf("%s was not tried", a.Addr)
		}
	}
}
