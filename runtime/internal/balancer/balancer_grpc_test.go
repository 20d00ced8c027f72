package balancer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

func TestP7_OneConnectionAnAddress(t *testing.T) {
	servers := serveAll(t, specs(20, "i%02d v%d z%d")...)
	r := newRig(t, &attr.Client{Zone: "z1"})
	r.update(`{}`, servers)
	r.connected(servers)
	load := r.load("/s.A/M")
	for _, policy := range []string{
		`{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}]}`,
		`{"split":[{"match":{"version":"v2"},"weight":5}]}`,
		`{"split":[{"match":{"zone":"z0"},"weight":5},{"match":{"zone":"z1"},"weight":5}]}`,
		`{"split":[{"match":{"zone":"z0","version":"v1"},"weight":5},{"match":{"zone":"z1"},"weight":5}]}`,
		`{}`,
		`{"split":[{"match":{"version":"v1"},"weight":99},{"match":{"version":"v2"},"weight":1}]}`,
		`{"preferZone":true}`,
		`{"childPolicy":[{"least_request_experimental":{}}]}`,
		`{"childPolicy":[{"etcd_weighted":{}}]}`,
		`{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"h"}}]}`,
		`{"childPolicy":[{"pick_first":{}}]}`,
		`{"childPolicy":[{"round_robin":{}}],"preferZone":true,"split":[{"match":{"version":"v1"},"weight":1}]}`,
		`{"childPolicy":[{"least_request_experimental":{"choiceCount":5}}]}`,
		`{"childPolicy":[{"round_robin":{}}]}`,
	} {
		r.update(policy, servers)
		load.goOn()
	}
	for _, s := range servers {
		addr, err := r.call(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: s.Instance}), "/s.A/M")
		if err != nil || addr != s.Addr {
			t.Errorf("a call to %s at %s: %s, %v", s.Instance, s.Addr, addr, err)
		}
	}
	load.stop()
	if made, open := connections(servers); made != 20 || open != 20 {
		t.Errorf("%d connections were made and %d are open, want 20", made, open)
	}
}

// TestS8_FlippingPoliciesConnectsToNothing has a live config change as fast as it can.
func TestS8_FlippingPoliciesConnectsToNothing(t *testing.T) {
	servers := serveAll(t, specs(20, "i%02d v%d z%d")...)
	r := newRig(t, &attr.Client{Zone: "z1"})
	r.update(`{}`, servers)
	r.connected(servers)
	load := r.load("/s.A/M")
	policies := []string{
		`{"childPolicy":[{"least_request_experimental":{}}]}`, `{}`, `{"preferZone":true}`,
		`{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"h"}}]}`, `{"childPolicy":[{"pick_first":{}}]}`,
		`{"childPolicy":[{"etcd_weighted":{}}]}`, `{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}]}`,
	}
	for i := range 231 {
		r.update(policies[i%len(policies)], servers)
	}
	load.stop()
	if made, _ := connections(servers); made != 20 {
		t.Errorf("%d connections were made, want 20", made)
	}
}

// TestP1_ARollbackUnderLoad has an instance without a method join two that have it, while connecting
// takes time and calls of the method go on.
func TestP1_ARollbackUnderLoad(t *testing.T) {
	both := serveAll(t, "a - - s.A/M,New", "b - - s.A/M,New")
	r := newRig(t, &attr.Client{})
	r.update(`{}`, both)
	r.connected(both)
	load := r.load("/s.A/New")
	old := serve(t, "c - - s.A/M")
	gate := make(chan struct{})
	old.gate.Store(&gate)
	r.update(`{}`, append(both, old))
	eventually(t, "the old instance is connected to", func() bool { return old.waiting.Load() > 0 })
	load.goOn()
	close(gate)
	eventually(t, "the old instance is called for what it has", func() bool {
		addr, err := r.call(context.Background(), "/s.A/M")
		if err != nil {
			t.Fatal(err)
		}
		return addr == old.Addr
	})
	load.goOn()
	load.stop()
}

// TestP2_ADrainDoesNotWaitForAnotherPlan drains an instance while a plan waits for a connection that
// is not made.
func TestP2_ADrainDoesNotWaitForAnotherPlan(t *testing.T) {
	servers := serveAll(t, "a v1", "b v1")
	r := newRig(t, &attr.Client{})
	r.update(`{}`, servers)
	eventually(t, "both are called", func() bool {
		_, err := r.call(context.Background(), "/s.A/M")
		return err == nil && servers[0].calls.Load() > 0 && servers[1].calls.Load() > 0
	})
	slow := serve(t, "c v2")
	gate := make(chan struct{})
	defer close(gate)
	slow.gate.Store(&gate)
	const split = `"split":[{"match":{"version":"v2"},"weight":1},{"match":{"version":"v1"},"weight":1}]`
	r.update(`{`+split+`}`, append(servers, slow))
	r.update(`{"drain":["a"],`+split+`}`, append(servers, slow))
	before := servers[0].calls.Load()
	for range 50 {
		if addr, err := r.call(context.Background(), "/s.A/M"); err != nil || addr != servers[1].Addr {
			t.Fatalf("a call went to %s: %v", addr, err)
		}
	}
	if now := servers[0].calls.Load(); now != before {
		t.Errorf("%d calls went to what is drained", now-before)
	}
}

// TestP6_FromRoundRobinToRingHashUnderLoad has the ring find what is connected.
func TestP6_FromRoundRobinToRingHashUnderLoad(t *testing.T) {
	servers := serveAll(t, specs(5, "i%02d v%d z%d")...)
	r := newRig(t, &attr.Client{})
	r.update(`{}`, servers)
	r.connected(servers)
	for _, s := range servers { // from now on connecting takes for ever
		gate := make(chan struct{})
		defer close(gate)
		s.gate.Store(&gate)
	}
	load := r.load("/s.A/M")
	r.update(`{"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`, servers)
	for i := range 50 {
		ctx := calloptions.WithAffinity(context.Background(), string(rune('a'+i)))
		if _, err := r.call(ctx, "/s.A/M"); err != nil {
			t.Error(err)
		}
	}
	load.goOn()
	load.stop()
}

// beginnings tells of calls that begin to look for a connection.
type beginnings chan struct{}

func (b beginnings) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.Begin); ok {
		select {
		case b <- struct{}{}:
		default: // nobody waits for more
		}
	}
}
func (beginnings) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (beginnings) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (beginnings) HandleConn(context.Context, stats.ConnStats)                       {}

// TestWhatWaitsForTheFirstStateIsAnswered has a call begin before anything is known.
func TestWhatWaitsForTheFirstStateIsAnswered(t *testing.T) {
	servers := serveAll(t, "a", "b")
	begun := make(beginnings, 2)
	r := newRig(t, &attr.Client{}, grpc.WithStatsHandler(begun))
	r.hand(etcdConfig(`{}`), &attr.State{Pending: true})
	errs := make(chan error, 2)
	go func() { _, err := r.call(context.Background(), "/s.A/M"); errs <- err }()
	go func() {
		_, err := r.call(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "b", Addr: "", Sequence: 2}), "/s.A/M")
		errs <- err
	}()
	<-begun
	<-begun
	r.update(`{}`, servers)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	none := errors.New(`etcd: no endpoint is registered under "acme/user"`)
	r.hand(etcdConfig(`{}`), &attr.State{Err: none})
	if _, err := r.call(context.Background(), "/s.A/M"); err != nil {
		t.Errorf("with one that has left, and is connected: %v", err)
	}
	for _, s := range servers {
		s.grpc.Stop()
	}
	eventually(t, "calls hear why", func() bool {
		_, err := r.call(context.Background(), "/s.A/M")
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), none.Error())
	})
}
