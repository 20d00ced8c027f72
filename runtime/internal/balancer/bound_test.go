package balancer

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// boundable are the policies that support max_concurrent_requests.
var boundable = []string{`{"round_robin":{}}`, `{"least_request_experimental":{}}`,
	`{"etcd_weighted":{}}`, `{"etcd_peak_ewma":{}}`, ringHash}

func bound(most int, child string) string {
	return fmt.Sprintf(`"maxConcurrentRequests":%d,"childPolicy":[%s]`, most, child)
}

// fill begins calls until one fails, and checks that it fails because of the
// bound. end ends the calls. at counts the calls per instance.
func (r *rig) fill(ctx context.Context) (end func(), at map[string]int) {
	r.t.Helper()

	at = make(map[string]int)
	var ends []func(error)
	for range 100 {
		instance, end, err := r.begin(ctx, "/s.A/M")
		if err != nil {
			if status.Code(err) != codes.Unavailable ||
				!strings.Contains(err.Error(), "max_concurrent_requests") {
				r.t.Errorf("while %v are under way, a call returned %v, want Unavailable by max_concurrent_requests", at, err)
			}

			break
		}

		ends = append(ends, end)
		at[instance]++
	}

	return func() {
		for i, end := range ends {
			end([]error{nil, errRefused}[i%2])
		}
	}, at
}

// TestBound_Holds fills endpoints under bounds that change while calls are
// under way.
func TestBound_Holds(t *testing.T) {
	for _, child := range boundable {
		r := newRig(t)
		specs := strings.Split("0123456789", "")
		var ends []func()
		for _, tt := range []struct{ bound, room int }{{1, 1}, {3, 2}, {2, 0}} {
			r.update(bound(tt.bound, child), specs...)
			r.reachAll()
			end, at := r.fill(t.Context())
			ends = append(ends, end)

			got := r.whereNamed(calloptions.Target{Instance: "1"})
			if !strings.Contains(got, "code = Unavailable") ||
				!strings.Contains(got, "max_concurrent_requests") {
				t.Errorf("%s: under a bound of %d, a call to a full instance got %q, want Unavailable by max_concurrent_requests",
					child, tt.bound, got)
			}

			for _, name := range specs {
				if at[name] != tt.room {
					t.Errorf("%s: under a bound of %d, %s takes %d more calls, want %d", child,
						tt.bound, name, at[name], tt.room)
				}
			}
		}

		r.update(`"childPolicy":[`+child+`]`, specs...)

		if got := r.where(t.Context()); len(got) != 1 {
			t.Errorf("%s: without a bound, a call got %q, want an instance", child, got)
		}

		for _, end := range ends {
			end()
		}

		for addr, conn := range r.policy.core.conns {
			if n := conn.stats.UnderWay(); n != 0 {
				t.Errorf("%s: after all calls have ended, %d are counted at %s, want 0", child, n,
					addr)
			}
		}
	}
}

// TestBound_FailsWhileOthersConnect fills an endpoint while another one
// connects. The next call does not wait.
func TestBound_FailsWhileOthersConnect(t *testing.T) {
	r := newRig(t)
	r.hangs["b:1"] = true
	r.update(`"maxConcurrentRequests":1`, "a", "b")
	r.fill(t.Context()) // expects the error by the bound
}

// TestBound_SkipsFullEndpoints begins calls with one affinity key until all
// endpoints are full. The endpoint that has left gets no calls (P13).
func TestBound_SkipsFullEndpoints(t *testing.T) {
	for name, config := range map[string]string{
		"the next on the ring": ring,
		"the next tier":        `"preferZone":true`,
		"the other group":      `"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":9}]`,
		"the base":             `"route":[{"lane":"red","match":{"version":"v1"}}]`,
	} {
		r := newRig(t)
		r.update(`"maxConcurrentRequests":2,`+config, "a v1 x", "b v2 y", "c v2 y", "left v2 x")
		r.reachAll()
		r.update(`"maxConcurrentRequests":2,`+config, "a v1 x", "b v2 y", "c v2 y")

		_, at := r.fill(calloptions.WithLane(keyed("somebody"), "red"))
		if !maps.Equal(at, map[string]int{"a": 2, "b": 2, "c": 2}) {
			t.Errorf("%s: the calls at each instance are %v, want 2 at each of a, b and c", name,
				at)
		}
	}
}

// TestBound_CountsCallsByAddress fills an address. The address stays full when
// it then has no connection for a while, moves to the fallback, or gets a new
// policy, as when outlier detection is added to the config (P13).
func TestBound_CountsCallsByAddress(t *testing.T) {
	const most = `"maxConcurrentRequests":1`
	for name, meanwhile := range map[string]func(r *rig) *rig{
		"drained": func(r *rig) *rig {
			r.update(most+`,"drain":["a"]`, "a", "b")
			r.pass(linger)
			r.update(most, "a", "b")

			return r
		},
		"left and came back": func(r *rig) *rig {
			r.update(most, "b")
			r.pass(linger)
			r.update(most, "b")
			r.update(most, "a", "b")

			return r
		},
		"moved": func(r *rig) *rig {
			r.updateState(most,
				model.State{KeyState: known("b"), Away: &model.State{KeyState: known("a")}})
			r.last("b:1").set(connectivity.TransientFailure, errRefused)
			r.settle()

			return r
		},
		"has a new policy": func(r *rig) *rig {
			next := newRig(t)
			next.client = r.client
			next.update(most, "a", "b")

			return next
		},
	} {
		r := newRig(t)
		r.client.Stats = new(picking.Memory)
		r.update(most, "a", "b")
		r.fill(t.Context())

		if _, at := meanwhile(r).fill(t.Context()); len(at) > 0 {
			t.Errorf("%s: the further calls at each instance are %v, want none", name, at)
		}
	}
}
