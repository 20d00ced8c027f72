package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// scripted stands for a third-party policy, and records the calls of its methods. It is its own builder.
type scripted struct {
	name   string
	cc     balancer.ClientConn
	update func(balancer.ClientConnState) error // nil: the policy makes a connection to each endpoint
	calls  []string
}

// script registers a policy for a test.
func script(t *testing.T, name string) *scripted {
	s := &scripted{name: strings.ToLower(name + "_" + t.Name())}
	balancer.Register(s)
	return s
}

// config returns the JSON fields of a config that names the policy.
func (s *scripted) config() string { return fmt.Sprintf(`"childPolicy":[{%q:{}}]`, s.name) }

func (s *scripted) Name() string { return s.name }

func (s *scripted) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	s.cc = cc
	s.note("build")
	return s
}

func (s *scripted) ParseConfig(json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	return &otherConfig{}, nil
}

// otherConfig is the config of a policy that is not ours.
type otherConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`
}

func (s *scripted) note(what string) { s.calls = append(s.calls, what) }

func (s *scripted) count(what string) (n int) {
	for _, call := range s.calls {
		if call == what {
			n++
		}
	}
	return n
}

func (s *scripted) UpdateClientConnState(state balancer.ClientConnState) error {
	s.note("update")
	if s.update != nil {
		return s.update(state)
	}
	for _, ep := range state.ResolverState.Endpoints {
		sc, err := s.cc.NewSubConn(ep.Addresses, balancer.NewSubConnOptions{StateListener: func(balancer.SubConnState) {}})
		if err != nil {
			return err
		}
		sc.Connect()
	}
	return nil
}

func (s *scripted) ResolverError(error)                                        { s.note("error") }
func (s *scripted) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}
func (s *scripted) Close()                                                     { s.note("close") }
func (s *scripted) ExitIdle()                                                  { s.note("exit idle") }

// is gives gRPC a state with a picker that calls pick and returns no connection.
func (s *scripted) is(state connectivity.State, pick func()) {
	s.cc.UpdateState(balancer.State{ConnectivityState: state, Picker: pickerFunc(pick)})
}

type pickerFunc func()

func (f pickerFunc) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	f()
	return balancer.PickResult{}, errUnhealthy
}

// switching is a rig with a switcher in place of its policy.
type switching struct {
	*rig
	*switcher
}

// withSwitcher runs a test with a switcher in a synctest bubble.
func withSwitcher(t *testing.T, f func(t *testing.T, s switching)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := switching{r, &switcher{cc: r.fakeConn}}
		defer s.switcher.Close()
		f(t, s)
	})
}

// give passes a config and a state to the switcher, and waits until the policies settle.
func (s switching) give(config string, told attr.State) {
	s.t.Helper()
	state := attr.SetState(resolver.State{Endpoints: told.Endpoints}, &told)
	if err := s.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: mustConfig(s.t, "{"+config+"}")}); err != nil {
		s.t.Error(err)
	}
	s.wait()
}

func (s switching) wait() { s.pump(synctest.Wait) }

// TestOthers_CurrentServesUntilNextIsReady switches from our policy to one of another package, to a second one, and back to ours
// (P3, P6).
func TestOthers_CurrentServesUntilNextIsReady(t *testing.T) {
	withSwitcher(t, func(t *testing.T, s switching) {
		first, second := script(t, "first"), script(t, "second")
		fleet := attr.State{Endpoints: endpointsOf("a")}
		serves := func(by *scripted) {
			by.is(connectivity.Ready, func() { by.note("pick") })
			s.wait()
		}
		expect := func(when string, picks, closed, open int) {
			t.Helper()
			if first.count("pick") != picks || first.count("close")+second.count("close") != closed || len(s.open()) != open {
				t.Errorf("%s: the first policy's calls are %q, the second's are %q, and %d connections are open, want %d picks, %d closes, and %d connections",
					when, first.calls, second.calls, len(s.open()), picks, closed, open)
			}
		}
		s.give(``, fleet)
		s.give(first.config(), fleet)
		s.expect(t.Context(), "while the first connects", "a")
		expect("while the first connects", 0, 0, 2)
		serves(first)
		_ = s.where(t.Context())
		expect("once the first serves", 1, 0, 1)
		s.give(second.config(), fleet)
		_ = s.where(t.Context())
		expect("while the second connects", 2, 0, 3) // the first got the endpoint again, and connects again
		serves(second)
		expect("once the second serves", 2, 1, 1)
		s.give(``, fleet)
		s.expect(t.Context(), "back at ours", "a")
		expect("back at ours", 2, 2, 1)
	})
}

// TestOthers_GetSelectedEndpoints checks that another package's policy gets only endpoints that are selected and not drained,
// then those of the fallback, and no update once there is no endpoint (P8).
func TestOthers_GetSelectedEndpoints(t *testing.T) {
	withSwitcher(t, func(t *testing.T, s switching) {
		p := script(t, "some")
		var got string
		p.update = func(state balancer.ClientConnState) error {
			got = ""
			for _, ep := range state.ResolverState.Endpoints {
				got += instance(&ep)
			}
			if addrs := state.ResolverState.Addresses; len(addrs) != len(got) {
				t.Errorf("the endpoints %s have the addresses %v, want one address each", got, addrs)
			}
			p.is(connectivity.Ready, func() {})
			return nil
		}
		s.client.Selector = func(e *endpoint.Endpoint) bool { return e.Version != "hidden" }
		leaves := "" // the arguments of all calls of CallsLeave
		s.client.CallsLeave = func(leave bool) { leaves += fmt.Sprint(leave, " ") }
		drained, none := `"drain":["b"],`+p.config(), errors.New("none is registered")
		for _, tt := range []struct {
			told attr.State
			want string
		}{
			{attr.State{Endpoints: endpointsOf("a", "b", "h hidden")}, "a"},
			{attr.State{Endpoints: endpointsOf("a", "b", "c", "h hidden")}, "ac"},
			{attr.State{Endpoints: endpointsOf("h hidden"), Away: &attr.State{Endpoints: endpointsOf("w", "x hidden")}}, "w"},
			{attr.State{Err: none}, "w"}, // the policy gets no update
		} {
			tt.told.Client = s.client
			if s.give(drained, tt.told); got != tt.want {
				t.Errorf("the policy has the endpoints %q, want %q", got, tt.want)
			}
		}
		s.expect(t.Context(), "while the policy still serves", errUnhealthy.Error())
		p.is(connectivity.TransientFailure, func() {})
		s.wait()
		s.expect(t.Context(), "when the policy no longer serves", none.Error())
		s.ResolverError(none)
		s.ExitIdle()
		if p.count("error") != 1 || p.count("exit idle") != 1 {
			t.Errorf("the calls of the policy are %q, want one \"error\" and one \"exit idle\" among them", p.calls)
		}
		s.give(drained, attr.State{Client: s.client, Endpoints: endpointsOf("a")})
		if leaves != "true false " {
			t.Errorf("CallsLeave was called with %q, want %q", leaves, "true false ")
		}
		_ = s.where(named("a"))
		s.wait()
		s.expect(named("a"), "by name", "a")
	})
	if err := (&switcher{}).UpdateClientConnState(balancer.ClientConnState{BalancerConfig: &otherConfig{}}); err == nil {
		t.Error("UpdateClientConnState accepted another policy's config, want an error")
	}
}
