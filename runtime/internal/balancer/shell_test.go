package balancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// known returns endpoints as discovery has them.
func known(endpoints []resolver.Endpoint) []resolver.Endpoint {
	if len(endpoints) == 0 || attr.Endpoint(endpoints[0]) != nil {
		return endpoints
	}
	all := slices.Clone(endpoints)
	for i := range all {
		all[i] = attr.Known(all[i])
	}
	return all
}

// hand hands endpoints down.
func hand(p *policy, c *config, s *attr.State) error {
	s.Endpoints = known(s.Endpoints)
	state := attr.SetState(resolver.State{Endpoints: s.Endpoints}, s)
	cs := balancer.ClientConnState{ResolverState: state}
	if c != nil {
		cs.BalancerConfig = c
	}
	return p.UpdateClientConnState(cs)
}

func addrs(open []*fakeSubConn) string {
	var all []string
	for _, s := range open {
		all = append(all, strings.TrimSuffix(s.addrs[0].Addr, ":1"))
	}
	slices.Sort(all)
	return strings.Join(all, "")
}

// pick makes a pick with the picker in force.
func (c *fakeConn) pick(ctx context.Context, method string) (string, error) {
	c.mu.Lock()
	picker := c.state.Picker
	c.mu.Unlock()
	result, err := picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: method})
	if err != nil {
		return "", err
	}
	return result.SubConn.(*fakeSubConn).addrs[0].Addr, nil
}

func TestPending(t *testing.T) {
	p, cc := newTestPolicy(t)
	client := &attr.Client{}
	none := errors.New("etcd: no endpoint is registered under \"acme/user\"")
	for _, tt := range []struct {
		name  string
		state attr.State
		want  error
		in    connectivity.State
	}{
		{"nothing known", attr.State{Pending: true}, balancer.ErrNoSubConnAvailable, connectivity.Connecting},
		{"none there", attr.State{Err: none}, none, connectivity.TransientFailure},
		{"a bare resolver's empty set", attr.State{}, errors.New(`etcd: no endpoint of "" is known`), connectivity.TransientFailure},
		{"nothing known again", attr.State{Pending: true}, balancer.ErrNoSubConnAvailable, connectivity.Connecting},
	} {
		tt.state.Client = client
		if err := hand(p, nil, &tt.state); err != nil {
			t.Errorf("%s: the update returned %v", tt.name, err)
		}
		_, err := cc.pick(context.Background(), "/s.A/M")
		if err == nil || err.Error() != tt.want.Error() || cc.state.ConnectivityState != tt.in {
			t.Errorf("%s: %v in %v, want %v in %v", tt.name, err, cc.state.ConnectivityState, tt.want, tt.in)
		}
	}
	p.ResolverError(none)
	if _, err := cc.pick(context.Background(), "/s.A/M"); !errors.Is(err, none) {
		t.Errorf("after a resolver's error: %v", err)
	}
	other, cc := newTestPolicy(t)
	other.ResolverError(none)
	if _, err := cc.pick(context.Background(), "/s.A/M"); !errors.Is(err, none) {
		t.Errorf("after a resolver's error before all else: %v", err)
	}
}

func TestTargets(t *testing.T) {
	p, cc := newTestPolicy(t)
	to := func(instance string, sequence uint64) error {
		addr, err := cc.pick(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: instance, Addr: "", Sequence: sequence}), "/s.A/M")
		if err == nil && addr != instance+":1" {
			return fmt.Errorf("reached %s", addr)
		}
		return err
	}
	settled := func(instance string) error {
		_ = to(instance, 0)
		settle(p, cc)
		return to(instance, 0)
	}
	client := &attr.Client{Selector: func(e *endpoint.Endpoint) bool { return e.Version != "hidden" }}
	if !errors.Is(p.targets.open(calloptions.Target{Instance: "a"}, false), balancer.ErrNoSubConnAvailable) {
		t.Error("before the first state a target is not waited for")
	}
	_ = hand(p, nil, &attr.State{Client: client, Pending: true})
	if err := to("a", 0); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		t.Errorf("while nothing is known: %v", err)
	}
	_ = hand(p, mustConfig(t, `{"drain":["b"]}`), &attr.State{Client: client, Sequence: 7, Endpoints: ends("a", "b", "h hidden")})
	settle(p, cc)
	made := len(cc.made)
	if err := settled("a"); err != nil || len(cc.made) != made {
		t.Errorf("to one that is connected: %v, %d SubConns were made", err, len(cc.made)-made)
	}
	if err := settled("b"); err != nil {
		t.Errorf("to one that is drained: %v", err)
	}
	for instance, want := range map[string]string{"h": "not selected", "x": "no instance"} {
		if err := to(instance, 7); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), want) {
			t.Errorf("to %s: %v", instance, err)
		}
	}
	if err := to("x", 8); !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		t.Errorf("to one of a state that is to come: %v", err)
	}
	// It moves, is down, comes up, and leaves.
	cc.down["b2:1"] = errors.New("refused")
	moved := ends("a", "b")
	moved[1] = attr.New(&endpoint.Endpoint{Instance: "b", Addr: "b2:1"}, new(attr.Storage))
	_ = hand(p, mustConfig(t, `{"drain":["b"]}`), &attr.State{Client: client, Sequence: 8, Endpoints: moved})
	if err := settled("b"); err == nil || !strings.Contains(err.Error(), "refused") || !strings.Contains(err.Error(), `"b" at "b2:1"`) {
		t.Errorf("to one that is down: %v", err)
	}
	pass := func() { p.do(func() { p.core.reselect(time.Now().Add(linger)) }) }
	if pass(); addrs(cc.open()) != "ab2" {
		t.Errorf("open: %s", addrs(cc.open()))
	}
	delete(cc.down, "b2:1")
	target := cc.last("b2:1")
	target.set(connectivity.Idle, nil)
	settle(p, cc)
	_ = to("b", 0)
	settle(p, cc)
	if addr, err := cc.pick(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "b"}), "/s.A/M"); err != nil || addr != "b2:1" {
		t.Errorf("after it is idle: %s, %v", addr, err)
	}
	_ = hand(p, nil, &attr.State{Client: client, Sequence: 9, Endpoints: ends("a")})
	settle(p, cc)
	if err := to("b", 0); status.Code(err) != codes.Unavailable {
		t.Errorf("to one that left: %v", err)
	}
	if pass(); addrs(cc.open()) != "a" {
		t.Errorf("open: %s", addrs(cc.open()))
	}
}

func TestTargetThatLeavesBeforeItIsOpened(t *testing.T) {
	p, cc := newTestPolicy(t)
	_ = hand(p, nil, &attr.State{Endpoints: ends("a", "b")})
	settle(p, cc)
	k := p.targets.known.Load()
	p.mu.Lock() // so that it is opened later
	_, _ = p.targets.pick(calloptions.Target{Instance: "b"}, false)
	p.targets.known.Store(&input{service: k.service, config: k.config, client: k.client, all: k.all[:1]})
	p.mu.Unlock()
	settle(p, cc)
	p.targets.conns.Range(func(any, any) bool { t.Error("it is kept"); return false })
}

func TestTargetsOnly(t *testing.T) {
	p, cc := newTestPolicy(t)
	_ = hand(p, nil, &attr.State{Client: &attr.Client{TargetsOnly: true}, Endpoints: ends("a", "b")})
	settle(p, cc)
	if len(cc.made) > 0 || cc.state.ConnectivityState != connectivity.Ready {
		t.Errorf("%d SubConns, state %v", len(cc.made), cc.state.ConnectivityState)
	}
	if _, err := cc.pick(context.Background(), "/s.A/M"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call without a target: %v", err)
	}
	to := calloptions.WithTarget(t.Context(), calloptions.Target{Instance: "b"})
	_, _ = cc.pick(to, "/s.A/M")
	for _, connection := range []string{"the first", "the next"} {
		settle(p, cc)
		if addr, err := cc.pick(to, "/s.A/M"); addr != "b:1" || err != nil {
			t.Errorf("a call with a target, by %s connection: %s, %v", connection, addr, err)
		}
		cc.last("b:1").set(connectivity.Idle, nil) // it is lost
	}
	if got := addrs(cc.open()); got != "b" {
		t.Errorf("open: %s", got)
	}
}

type onePicker struct{ sc balancer.SubConn }

func (p onePicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.sc}, nil
}

func TestReportsAreToldOnce(t *testing.T) {
	var reports []string
	client := &attr.Client{Report: func(problem string) { reports = append(reports, problem) }}
	p, _ := newTestPolicy(t)
	for range 3 {
		_ = hand(p, mustConfig(t, `{"drain":["x"]}`), &attr.State{Client: client, Endpoints: ends("a")})
	}
	if len(reports) != 1 {
		t.Errorf("reported %q", reports)
	}
}

// TestASubsetForConnectionsWithoutOptions has a live config ask for a subset of connections that were made by the
// resolver alone.
func TestASubsetForConnectionsWithoutOptions(t *testing.T) {
	p, cc := newTestPolicy(t)
	c := mustConfig(t, `{"subset":1}`)
	state := resolver.State{Endpoints: []resolver.Endpoint{
		{Addresses: []resolver.Address{{Addr: "a:1"}}}, {Addresses: []resolver.Address{{Addr: "b:1"}}},
	}}
	if err := p.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: c}); err != nil {
		t.Fatal(err)
	}
	settle(p, cc)
	if open := cc.open(); len(open) != 1 {
		t.Errorf("%d connections, want 1", len(open))
	}
}

// TestTarget_OfSoManyInstances has calls name more instances than a client connects to. The leader is not counted.
func TestTarget_OfSoManyInstances(t *testing.T) {
	p, cc := newTestPolicy(t)
	const method = "/a.B/Lead"
	client := &attr.Client{Most: 2, TargetsOnly: true, LeaderMethods: map[string]struct{}{method: {}}}
	update := func(fleet ...string) {
		_ = hand(p, nil, &attr.State{Client: client, Endpoints: ends(fleet...), Leader: attr.Leader{Instance: "d"}})
	}
	to := func(instance string) (addr string, err error) {
		for range 2 { // the first call that names it has it connected to
			addr, err = cc.pick(calloptions.WithTarget(t.Context(), calloptions.Target{Instance: instance}), "/s.A/M")
			settle(p, cc)
		}
		return addr, err
	}
	update("a", "b", "c", "d")
	_, _ = to("a")
	_, _ = to("b")
	if _, err := to("c"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "runtime.WithLimits") {
		t.Errorf("a third: %v", err)
	}
	_, _ = cc.pick(t.Context(), method)
	settle(p, cc)
	if addr, err := cc.pick(t.Context(), method); err != nil || addr != "d:1" {
		t.Errorf("the leader: %q, %v", addr, err)
	}
	update("b", "c", "d")
	if addr, err := to("c"); err == nil || addr != "" {
		t.Errorf("beside b and the leader: %q, %v", addr, err)
	}
	update("c", "d")
	if addr, err := to("c"); err != nil || addr != "c:1" {
		t.Errorf("once the others have left: %q, %v", addr, err)
	}
}
