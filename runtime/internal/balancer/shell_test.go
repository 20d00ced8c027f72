package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// scripted is a policy below whose every method a test may replace.
type scripted struct {
	name   string
	parse  func(json.RawMessage) error
	build  func(balancer.ClientConn)
	update func(balancer.ClientConn, balancer.ClientConnState) error
	close  func()
	calls  []string
	conns  []balancer.ClientConn
	mu     sync.Mutex
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	s.note("build")
	s.conns = append(s.conns, cc)
	if s.build != nil {
		s.build(cc)
	}
	return &scriptedBalancer{s, cc}
}

func (s *scripted) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	if s.parse != nil {
		if err := s.parse(text); err != nil {
			return nil, err
		}
	}
	return &otherConfig{}, nil
}

// otherConfig is the config of a policy that is not ours.
type otherConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`
}

func (s *scripted) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what)
}

func (s *scripted) count(what string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, call := range s.calls {
		if call == what {
			n++
		}
	}
	return n
}

type scriptedBalancer struct {
	*scripted
	cc balancer.ClientConn
}

func (b *scriptedBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	b.note("update")
	if b.update != nil {
		return b.update(b.cc, s)
	}
	return nil
}
func (b *scriptedBalancer) ResolverError(error) { b.note("error") }
func (b *scriptedBalancer) UpdateSubConnState(_ balancer.SubConn, s balancer.SubConnState) {
	b.note(s.ConnectivityState.String())
}
func (b *scriptedBalancer) Close() {
	b.note("close")
	if b.close != nil {
		b.close()
	}
}
func (b *scriptedBalancer) ExitIdle() { b.note("exit idle") }

// script registers a policy for a test.
func script(t *testing.T) *scripted {
	s := &scripted{name: "scripted_" + strings.ToLower(t.Name())}
	balancer.Register(s)
	return s
}

func (s *scripted) config(t *testing.T) *config {
	t.Helper()
	return mustConfig(t, fmt.Sprintf(`{"childPolicy":[{%q:{}}]}`, s.name))
}

// hand hands endpoints down.
func hand(p *policy, c *config, s *attr.State) error {
	state := attr.SetState(resolver.State{Endpoints: s.Endpoints}, s)
	cs := balancer.ClientConnState{ResolverState: state}
	if c != nil {
		cs.BalancerConfig = c
	}
	return p.UpdateClientConnState(cs)
}

// connect has a policy below make a SubConn for each endpoint, and keep it.
func connect(cc balancer.ClientConn, s balancer.ClientConnState) error {
	for _, ep := range s.ResolverState.Endpoints {
		sc, err := cc.NewSubConn(ep.Addresses, balancer.NewSubConnOptions{StateListener: func(balancer.SubConnState) {}})
		if err != nil {
			return err
		}
		sc.Connect()
	}
	return nil
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

func TestP3_WhatAPolicyLeaksIsShutDown(t *testing.T) {
	s := script(t)
	s.update = connect
	p, cc := newPolicy(t)
	_ = hand(p, s.config(t), &attr.State{Endpoints: ends("a", "b", "c")})
	settle(p, cc)
	if got := addrs(cc.open()); got != "abc" {
		t.Errorf("open: %s, want abc", got)
	}
	_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: ends("a", "c")})
	settle(p, cc)
	if got := addrs(cc.open()); got != "ac" || s.count("close") != 1 {
		t.Errorf("open: %s, want ac; closed %d times", got, s.count("close"))
	}
	_ = hand(p, mustConfig(t, `{}`), &attr.State{Endpoints: ends("c")})
	settle(p, cc)
	p.do(func() { p.core.expire(time.Now().Add(linger)) })
	if got := addrs(cc.open()); got != "c" {
		t.Errorf("open: %s, want c", got)
	}
	p.Close()
	for _, sc := range cc.made {
		if sc.shutdowns != 1 {
			t.Errorf("%s was shut down %d times", sc.addrs[0].Addr, sc.shutdowns)
		}
	}
	if left := len(p.core.all) + len(p.core.conns); left > 0 {
		t.Errorf("%d connections are kept", left)
	}
}

func TestS1_APanicBelowIsABadConfig(t *testing.T) {
	for _, where := range []string{"build", "update", "listener", "close", "second update"} {
		t.Run(where, func(t *testing.T) {
			s := script(t)
			boom := func() { panic("boom") }
			updates := 0
			switch where {
			case "build":
				s.build = func(balancer.ClientConn) { boom() }
			case "update":
				s.update = func(cc balancer.ClientConn, cs balancer.ClientConnState) error {
					_ = connect(cc, cs)
					boom()
					return nil
				}
			case "second update":
				s.update = func(cc balancer.ClientConn, cs balancer.ClientConnState) error {
					if updates++; updates > 1 {
						boom()
					}
					cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)})
					return connect(cc, cs)
				}
			case "listener":
				s.update = func(cc balancer.ClientConn, cs balancer.ClientConnState) error {
					sc, err := cc.NewSubConn(cs.ResolverState.Endpoints[0].Addresses, balancer.NewSubConnOptions{
						StateListener: func(balancer.SubConnState) { boom() }})
					sc.Connect()
					return err
				}
			case "close":
				s.update = connect
				s.close = boom
			}
			var mu sync.Mutex
			var reports []string
			client := &attr.Client{Report: func(problem string) {
				mu.Lock()
				defer mu.Unlock()
				reports = append(reports, problem)
			}}
			p, cc := newPolicy(t)
			// With nothing before, calls fail and say why.
			_ = hand(p, s.config(t), &attr.State{Client: client, Endpoints: ends("a", "b")})
			settle(p, cc)
			if where == "build" || where == "update" || where == "listener" {
				_, pickErr := cc.pick(context.Background(), "/s.A/M")
				if pickErr == nil || !strings.Contains(pickErr.Error(), s.name) || cc.state.ConnectivityState != connectivity.TransientFailure {
					t.Errorf("a pick: %v, in state %v", pickErr, cc.state.ConnectivityState)
				}
				if open := addrs(cc.open()); where == "update" && open != "" && cc.open()[0].shutdowns > 0 {
					t.Errorf("open: %s", open)
				}
			}
			if err := hand(p, mustConfig(t, `{}`), &attr.State{Client: client, Endpoints: ends("a", "b")}); err != nil {
				t.Error(err)
			}
			settle(p, cc)
			calls := len(s.calls)
			// With a good one before, that goes on.
			_ = hand(p, s.config(t), &attr.State{Client: client, Endpoints: ends("a", "b")})
			settle(p, cc)
			if where == "close" {
				_ = hand(p, mustConfig(t, `{}`), &attr.State{Client: client, Endpoints: ends("a", "b")})
				settle(p, cc)
			} else if where == "second update" {
				_ = hand(p, s.config(t), &attr.State{Client: client, Endpoints: ends("a", "b", "c")})
				settle(p, cc)
			} else if len(s.calls) != calls {
				t.Errorf("it was called again: %q", s.calls[calls:])
			}
			if _, err := cc.pick(context.Background(), "/s.A/M"); err != nil || cc.state.ConnectivityState != connectivity.Ready {
				t.Errorf("a pick: %v, in state %v", err, cc.state.ConnectivityState)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(reports) != 1 || !strings.Contains(reports[0], s.name) || !strings.Contains(reports[0], "boom") {
				t.Errorf("reported %q", reports)
			}
		})
	}
	bad := script(t)
	bad.parse = func(json.RawMessage) error { panic("boom") }
	if _, err := parseConfig(json.RawMessage(fmt.Sprintf(`{"childPolicy":[{%q:{}}]}`, bad.name))); err == nil || !strings.Contains(err.Error(), bad.name) {
		t.Errorf("a panic while parsing: %v", err)
	}
}

// TestS1_WhatPanicsAfterItHasServedIsNotUsedAgain has a policy below serve and then panic, each time.
func TestS1_WhatPanicsAfterItHasServedIsNotUsedAgain(t *testing.T) {
	for _, before := range []bool{false, true} {
		s := script(t)
		s.update = func(cc balancer.ClientConn, cs balancer.ClientConnState) error {
			cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)})
			if len(cs.ResolverState.Endpoints) > 2 && s.count("build") < 10 {
				panic("boom")
			}
			return nil
		}
		p, cc := newPolicy(t)
		state := &attr.State{Client: &attr.Client{}, Endpoints: ends("a", "b")}
		if before {
			_ = hand(p, mustConfig(t, `{}`), state)
			settle(p, cc)
		}
		for _, fleet := range [][]resolver.Endpoint{ends("a", "b"), ends("a", "b", "c")} {
			_ = hand(p, s.config(t), &attr.State{Client: &attr.Client{}, Endpoints: fleet})
			settle(p, cc)
		}
		if n := s.count("build"); n != 1 {
			t.Errorf("it was built %d times", n)
		}
		if _, err := cc.pick(t.Context(), "/s.A/M"); before && err != nil || !before && (err == nil || !strings.Contains(err.Error(), s.name)) {
			t.Errorf("what was before is %v: %v", before, err)
		}
	}
}

func TestPending(t *testing.T) {
	p, cc := newPolicy(t)
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
	other, cc := newPolicy(t)
	other.ResolverError(none)
	if _, err := cc.pick(context.Background(), "/s.A/M"); !errors.Is(err, none) {
		t.Errorf("after a resolver's error before all else: %v", err)
	}
	s := script(t)
	_ = hand(other, s.config(t), &attr.State{Endpoints: ends("a")})
	other.ResolverError(none)
	other.ExitIdle()
	settle(other, cc)
	if s.count("error") != 1 || s.count("exit idle") != 1 {
		t.Errorf("the policy below was called %q", s.calls)
	}
	if err := other.UpdateClientConnState(balancer.ClientConnState{BalancerConfig: &otherConfig{}}); err == nil {
		t.Error("another policy's config was taken")
	}
}

func TestTargets(t *testing.T) {
	p, cc := newPolicy(t)
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
	pass := func() { p.do(func() { p.core.expire(time.Now().Add(linger)) }) }
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
	p, cc := newPolicy(t)
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
	p, cc := newPolicy(t)
	_ = hand(p, nil, &attr.State{Client: &attr.Client{TargetsOnly: true}, Endpoints: ends("a", "b")})
	settle(p, cc)
	if len(cc.made) > 0 || cc.state.ConnectivityState != connectivity.Ready {
		t.Errorf("%d SubConns, state %v", len(cc.made), cc.state.ConnectivityState)
	}
	if _, err := cc.pick(context.Background(), "/s.A/M"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call without a target: %v", err)
	}
	_, _ = cc.pick(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "b"}), "/s.A/M")
	settle(p, cc)
	if addr, err := cc.pick(calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "b"}), "/s.A/M"); addr != "b:1" || err != nil {
		t.Errorf("a call with one: %s, %v", addr, err)
	}
	if got := addrs(cc.open()); got != "b" {
		t.Errorf("open: %s", got)
	}
}

func TestP8_PoliciesOnBalancerBaseGetAddresses(t *testing.T) {
	name := "base_" + strings.ToLower(t.Name())
	balancer.Register(base.NewBalancerBuilder(name, firstOf{}, base.Config{}))
	p, cc := newPolicy(t)
	c := mustConfig(t, fmt.Sprintf(`{"childPolicy":[{%q:{}}]}`, name))
	for _, fleet := range [][]resolver.Endpoint{ends("a", "b"), ends("b")} {
		if err := hand(p, c, &attr.State{Endpoints: fleet}); err != nil {
			t.Fatal(err)
		}
		settle(p, cc)
		if _, err := cc.pick(context.Background(), "/s.A/M"); err != nil {
			t.Error(err)
		}
	}
	if got := addrs(cc.open()); got != "b" {
		t.Errorf("open: %s", got)
	}
}

type firstOf struct{}

func (firstOf) Build(info base.PickerBuildInfo) balancer.Picker {
	for sc := range info.ReadySCs {
		return onePicker{sc}
	}
	return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
}

type onePicker struct{ sc balancer.SubConn }

func (p onePicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.sc}, nil
}

func TestReportsAreToldOnce(t *testing.T) {
	var reports []string
	client := &attr.Client{Report: func(problem string) { reports = append(reports, problem) }}
	p, _ := newPolicy(t)
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
	p, cc := newPolicy(t)
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
	p, cc := newPolicy(t)
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
