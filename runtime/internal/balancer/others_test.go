package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

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

// switching is a switcher over a fake connection.
type switching struct {
	*switcher
	t  *testing.T
	cc *fakeConn
}

// withSwitcher runs a test in a bubble.
func withSwitcher(t *testing.T, f func(t *testing.T, s switching)) {
	synctest.Test(t, func(t *testing.T) {
		cc := &fakeConn{down: make(map[string]error)}
		s := switching{&switcher{cc: cc, opts: balancer.BuildOptions{}}, t, cc}
		defer s.Close()
		f(t, s)
	})
}

// hand hands a config and a state down, and waits until nothing more happens.
func (s switching) hand(c *config, told attr.State) {
	s.t.Helper()
	state := attr.SetState(resolver.State{Endpoints: told.Endpoints}, &told)
	if err := s.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: c}); err != nil {
		s.t.Error(err)
	}
	s.settle()
}

func (s switching) settle() { s.cc.pump(synctest.Wait) }

// TestOthers_APanicEndsTheirConnectionAlone has a policy of others panic wherever it is called.
func TestOthers_APanicEndsTheirConnectionAlone(t *testing.T) {
	for i, where := range []string{"build", "update", "listener", "picker"} {
		t.Run(where, func(t *testing.T) {
			withSwitcher(t, func(t *testing.T, s switching) {
				bad := script(t)
				panics := func(in string) {
					if in == where {
						panic("boom")
					}
				}
				bad.build = func(balancer.ClientConn) { panics("build") }
				bad.update = func(cc balancer.ClientConn, cs balancer.ClientConnState) error {
					sc, err := cc.NewSubConn(cs.ResolverState.Endpoints[0].Addresses, balancer.NewSubConnOptions{
						StateListener: func(balancer.SubConnState) { panics("listener") },
					})
					if err != nil {
						return err
					}
					sc.Connect()
					cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: pickerFunc(func() { panics("picker") })})
					panics("update")
					return nil
				}
				for range 2 {
					s.hand(bad.config(t), attr.State{Endpoints: ends("a", "b")})
					_, err := s.cc.pick(t.Context(), "/s.A/M")
					if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the policy %q panicked: boom", bad.name)) {
						t.Errorf("a call ends with %v", err)
					}
				}
				if open := addrs(s.cc.open()); where != "picker" && (open != "" || len(bad.calls) > 2) {
					t.Errorf("%s are open, and it was called %q", open, bad.calls)
				}
				s.hand(mustConfig(t, `{}`), attr.State{Endpoints: ends("a", "b")})
				if _, err := s.cc.pick(t.Context(), "/s.A/M"); err != nil {
					t.Errorf("a policy of ours does not serve after it: %v", err)
				}
			})
		})
		_ = i
	}
}

// pickerFunc is a picker that calls a function, and has no connection.
type pickerFunc func()

func (f pickerFunc) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	f()
	return balancer.PickResult{}, errUnwell
}

// TestOthers_WhatServesStaysUntilTheNextCan goes from our policy to one of others, to a second one, and back.
func TestOthers_WhatServesStaysUntilTheNextCan(t *testing.T) {
	withSwitcher(t, func(t *testing.T, s switching) {
		first, second := script(t), &scripted{name: "second_" + strings.ToLower(t.Name())}
		balancer.Register(second)
		first.update, second.update = connect, connect
		fleet := attr.State{Endpoints: ends("a")}
		s.hand(mustConfig(t, `{}`), fleet)
		serves := func(by *scripted) {
			t.Helper()
			by.conns[0].UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: pickerFunc(func() { by.note("pick") })})
			s.settle()
		}
		made := func() int { return len(s.cc.made) }
		s.hand(first.config(t), fleet)
		if got, err := s.cc.pick(t.Context(), "/s.A/M"); got != "a:1" || made() != 2 {
			t.Errorf("while it connects, a call goes to %q, %v; %d connections were made", got, err, made())
		}
		serves(first)
		_, _ = s.cc.pick(t.Context(), "/s.A/M")
		if first.count("pick") != 1 || len(s.cc.open()) != 1 {
			t.Errorf("once it serves, it picks %d times, and %d connections are open", first.count("pick"), len(s.cc.open()))
		}
		s.hand(second.config(t), fleet)
		_, _ = s.cc.pick(t.Context(), "/s.A/M")
		if serves(second); first.count("pick") != 2 || first.count("close") != 1 || len(s.cc.open()) != 1 {
			t.Errorf("the first picks %d times and is closed %d times, and %d connections are open", first.count("pick"), first.count("close"), len(s.cc.open()))
		}
		s.hand(mustConfig(t, `{}`), fleet)
		if got, err := s.cc.pick(t.Context(), "/s.A/M"); got != "a:1" || second.count("close") != 1 || len(s.cc.open()) != 1 {
			t.Errorf("back at ours, a call goes to %q, %v; the second is closed %d times, and %d connections are open", got, err, second.count("close"), len(s.cc.open()))
		}
	})
}

// TestOthers_GetWhatIsLeftForThem has drain, selector and subset leave endpoints to a policy of others, and in the end none.
func TestOthers_GetWhatIsLeftForThem(t *testing.T) {
	withSwitcher(t, func(t *testing.T, s switching) {
		p := script(t)
		var got string
		p.update = func(cc balancer.ClientConn, cs balancer.ClientConnState) error {
			if got = instances(cs.ResolverState.Endpoints); len(cs.ResolverState.Addresses) != len(cs.ResolverState.Endpoints) {
				t.Errorf("%s have the addresses %v", got, cs.ResolverState.Addresses)
			}
			cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: pickerFunc(func() {})})
			return nil
		}
		client := &attr.Client{Selector: func(e *endpoint.Endpoint) bool { return e.Version != "hidden" }, Seed: seedOfTests}
		drained := mustConfig(t, fmt.Sprintf(`{"drain":["b"],"childPolicy":[{%q:{}}]}`, p.name))
		none := errors.New("none is registered")
		for _, tt := range []struct {
			told attr.State
			want string
		}{
			{attr.State{Endpoints: ends("a", "b", "h hidden")}, "a"},
			{attr.State{Endpoints: ends("a", "b", "c", "h hidden")}, "ac"},
			{attr.State{Endpoints: ends("h hidden"), Away: &attr.State{Endpoints: ends("w", "x hidden")}}, "w"},
			{attr.State{Err: none}, "w"}, // it was told nothing
		} {
			tt.told.Client = client
			if s.hand(drained, tt.told); got != tt.want {
				t.Errorf("it has %q, want %q", got, tt.want)
			}
		}
		if _, err := s.cc.pick(t.Context(), "/s.A/M"); !errors.Is(err, errUnwell) {
			t.Errorf("while it still serves, a call gets %v", err)
		}
		p.conns[0].UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: pickerFunc(func() {})})
		s.settle()
		if _, err := s.cc.pick(t.Context(), "/s.A/M"); !errors.Is(err, none) {
			t.Errorf("when it no longer serves, a call gets %v", err)
		}
		s.ResolverError(none)
		s.ExitIdle()
		if p.count("error") != 1 || p.count("exit idle") != 1 {
			t.Errorf("it was called %q", p.calls)
		}
		to := calloptions.WithTarget(context.Background(), calloptions.Target{Instance: "a"})
		s.hand(drained, attr.State{Client: client, Endpoints: ends("a")})
		_, _ = s.cc.pick(to, "/s.A/M")
		s.settle()
		if addr, err := s.cc.pick(to, "/s.A/M"); addr != "a:1" {
			t.Errorf("a call by name reaches %q, %v", addr, err)
		}
	})
	if err := (&switcher{}).UpdateClientConnState(balancer.ClientConnState{BalancerConfig: &otherConfig{}}); err == nil {
		t.Error("another policy's config was taken")
	}
}
