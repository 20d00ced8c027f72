package balancer

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// TestPolicy_MarshalsItsConfig compares a marshalled config with its source.
// Package serviceconfig tests how configs are parsed.
func TestPolicy_MarshalsItsConfig(t *testing.T) {
	c := mustConfig(t, `{"minHealthyPercent":2,"drain":["x"],"childPolicy":[{"pick_first":{}}]}`)
	text, err := json.Marshal(c)
	must.Succeed(t, err)

	again := mustConfig(t, string(text))
	if !again.policy.Traits().Single ||
		again.MinHealthyPercent != 2 ||
		!slices.Equal(again.Drain, c.Drain) {
		t.Errorf("the config became %s when it was marshalled, want the same policy, percentage and drain", text)
	}
}

// TestPolicy_WithoutEndpoints makes calls while endpoints are unknown, and
// while the key has none.
func TestPolicy_WithoutEndpoints(t *testing.T) {
	r := newRig(t)
	none := errors.New(`etcd: no endpoint is registered under "acme/user"`)
	for _, tt := range []struct {
		when  string
		state model.State
		want  string
		in    connectivity.State
	}{
		{"nothing is known", model.State{}, "waits", connectivity.Connecting},
		{"the key has no endpoint", model.State{Err: none}, none.Error(),
			connectivity.TransientFailure},
		{"a bare resolver has no endpoint", model.State{KeyState: known()},
			`etcd: no endpoint of "" is known`, connectivity.TransientFailure},
		{"nothing is known again", model.State{}, "waits", connectivity.Connecting},
	} {
		r.updateState(``, tt.state)
		r.expect(t.Context(), tt.when, tt.want)

		if got := stateOf(r.fakeConn).ConnectivityState; got != tt.in {
			t.Errorf("%s: the policy is %v, want %v", tt.when, got, tt.in)
		}
	}

	r.policy.ResolverError(none)
	r.expect(t.Context(), "after a resolver's error", none.Error())
	r = newRig(t)
	r.policy.ResolverError(none)
	r.expect(t.Context(), "after a resolver's error before any state", none.Error())
}

// TestPolicy_RefusesAnothersConfig gives the policy the config of another one.
func TestPolicy_RefusesAnothersConfig(t *testing.T) {
	another := struct {
		serviceconfig.LoadBalancingConfig
	}{}
	err := newRig(t).policy.UpdateClientConnState(balancer.ClientConnState{BalancerConfig: another})
	if err == nil {
		t.Error("UpdateClientConnState accepted another policy's config, want an error")
	}
}

// TestPolicy_ServesLastKnownEndpoints starts with the last known endpoints.
// Calls go to reachable ones. While none can be reached, calls wait until etcd
// has answered. Problems of the live config are reported only then.
func TestPolicy_ServesLastKnownEndpoints(t *testing.T) {
	r := newRig(t)
	var reports []string
	r.client.Report = func(problem string) { reports = append(reports, problem) }
	r.refuse("a")
	r.updateState(`"drain":["x"]`,
		model.State{KeyState: model.KeyState{Endpoints: endpointsOf("a", "b")}})
	r.expect(t.Context(), "while only b can be reached", "b")
	r.updateState(``, model.State{KeyState: model.KeyState{Endpoints: endpointsOf("a")}})
	r.set("b", connectivity.Idle)
	r.expect(t.Context(), "before etcd has answered", "waits")
	r.update(`"drain":["b"]`, "a")
	r.expect(t.Context(), "once etcd has answered", errRefused.Error())

	want := []string{`drain names "b": no endpoint of "" has that name`}
	if !slices.Equal(reports, want) {
		t.Errorf("the reports are %q, want %q", reports, want)
	}
}

// TestPick_AllocatesNothing makes calls, routed ones too, under each option of
// the policy, and under all of them.
func TestPick_AllocatesNothing(t *testing.T) {
	for _, config := range []string{
		``, byVersion, `"preferZone":true,"zoneMinPercent":80`,
		`"subset":2`, looseRed, `"maxConcurrentRequests":100`, `"slowStart":{"window":"3600s"}`, ring,
		`"childPolicy":[{"etcd_weighted":{}}]`, `"childPolicy":[{"least_request_experimental":{}}]`, peakConfig,
		`"preferZone":true,"zoneMinPercent":80,"subset":2,"maxConcurrentRequests":100,"slowStart":{"window":"3600s"},` +
			peakConfig,
	} {
		r := newRig(t)
		r.client.Routed = map[string]bool{"/s.A/Lead": true}
		fleet := known("a v1 x s.A/M", "b v2 x s.A/M,New", "c v1 y s.A/M", "d v2 y s.A/M,New")
		r.updateState(config, model.State{
			KeyState: fleet,
			Route:    model.Route{Instance: "a", Role: "leader", Header: "token", Value: "7"},
		})

		ctx := calloptions.WithAffinity(lane("red"), "k")
		for _, method := range []string{"M", "New", "Lead"} {
			info := balancer.PickInfo{Ctx: ctx, FullMethodName: "/s.A/" + method}
			pick := func() {
				result, err := stateOf(r.fakeConn).Picker.Pick(info)
				must.Succeed(t, err)

				if result.Done != nil {
					result.Done(balancer.DoneInfo{BytesReceived: true})
				}
			}

			// may make a subset connect to an endpoint with the method
			_ = r.whereBy(ctx, info.FullMethodName)
			r.settle()

			if n := testing.AllocsPerRun(100, pick); n > 0 {
				t.Errorf("config %q: a pick for the method %s makes %v allocations, want 0",
					config, method, n)
			}
		}
	}
}
