package balancer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// TestLastResort_ServesWhileAllElseFails makes calls after the server a has
// left, while other endpoints connect or are ready.
func TestLastResort_ServesWhileAllElseFails(t *testing.T) {
	none := errors.New("etcd: no endpoint is registered")
	for _, tt := range []struct {
		name, config string   // the config after a has left
		fleet        []string // the endpoints after a has left
		hangs, want  string
	}{
		{"all have left", ``, nil, "", "a"},
		{"a successor connects", ``, []string{"n v1"}, "n:1", "a"},
		{"a successor is ready", ``, []string{"n v1"}, "", "n"},
		{"a successor connects, and a drained endpoint is not used", `"drain":["d"]`,
			[]string{"d v1", "n v1"}, "n:1", "a"},
		{"a strict lane never had a", strictRed, []string{"n v2"}, "n:1", "waits"},
		{"a group of a split has a no longer", byVersion, []string{"n v2"}, "", "n"},
		{"another zone has an endpoint", `"preferZone":true`, []string{"n v1 y"}, "", "n"},
	} {
		r := newRig(t)
		r.hangs[tt.hangs] = true
		r.update(``, "a v1")

		s := model.State{KeyState: known(tt.fleet...)}
		if len(tt.fleet) == 0 {
			s.Err = none
		}

		r.updateState(tt.config, s)
		ctx := lane("red") // only one of the configs has this lane
		r.expect(ctx, tt.name, tt.want)

		if tt.want != "a" {
			continue
		}

		r.set("a", connectivity.Idle)
		got := r.where(ctx)
		a := r.last("a:1")

		want := map[bool]string{true: none.Error(), false: "waits"}[s.Err != nil]
		if got != want || a.connects != 1 {
			t.Errorf("%s: after the end of the connection to a, a call gets %q, want %q, and Connect was called %d times, want 1",
				tt.name, got, want, a.connects)
		}
	}
}

// TestLastResort_OfANewPolicy starts a policy, as gRPC does after idleness,
// when the server a has just left. Then it starts one while the primary's
// endpoints are not known.
func TestLastResort_OfANewPolicy(t *testing.T) {
	none := errors.New("etcd: no endpoint is registered")
	left := model.KeyState{Known: true, Departed: endpointsOf("a")}
	for _, tt := range []struct {
		state      model.State
		want, down string // where calls go at first, and once that server is down
		named      string // where calls go that name a
	}{
		{model.State{KeyState: left, Err: none}, "a", none.Error(), "a"},
		{model.State{KeyState: left, Err: none, Away: &model.State{KeyState: known("z")}}, "z",
			none.Error() + "; nor in the cluster to fall back on: refused", "etcd: no instance"},
		{model.State{Away: &model.State{KeyState: known("z")}}, "z", "waits", "waits"},
	} {
		r := newRig(t)
		r.updateState(``, tt.state)
		r.expect(t.Context(), "at first", tt.want)

		if got := r.where(named("a")); !strings.HasPrefix(got, tt.named) {
			t.Errorf("a call that names a gets %q, want %q", got, tt.named)
		}

		r.refuse(tt.want)
		r.expect(t.Context(), tt.want+" is down", tt.down)
	}
}

// Calls wait for one readyTimeout in all: for endpoints that hang, and for the
// endpoints that replace them in a subset. Meanwhile, no call goes to an
// endpoint of another zone, without a share of the split, in the base of a
// lane, or drained.
func TestLastResort_WhileOthersHang(t *testing.T) {
	for _, config := range []string{
		`"drain":["a"]`, `"preferZone":true`, `"split":[{"match":{"version":"v2"},"weight":1}]`,
		`"subset":1,"drain":["a"]`, `"subset":1,"preferZone":true`, `"subset":1,"split":[{"match":{"version":"v2"},"weight":1}]`, `"subset":1,` + looseRed,
	} {
		r := newRig(t)
		r.hangs["b:1"], r.hangs["c:1"] = true, true
		r.update(config, "a v1 y", "b v2 x", "c v2 x")
		r.expect(lane("red"), config+": while b connects", "waits")
		r.settle()
		r.pass(readyTimeout)
		r.expect(lane("red"), config+": while b hangs", "a")
		r.set("b", connectivity.Ready)
		r.expect(lane("red"), config+": once b is ready", "b")
	}
}

// TestLastResort_UsesEjectedEndpoints ejects one endpoint after another, as
// outlier detection does when it also counts endpoints that calls may not use.
func TestLastResort_UsesEjectedEndpoints(t *testing.T) {
	r := newRig(t)
	r.update(`"drain":["d"]`, "a", "b", "d")
	_ = r.where(t.Context())

	for _, eject := range []struct{ name, next string }{{"a", "b"}, {"b", "ab"}} {
		r.last(eject.name + ":1").health(balancer.SubConnState{
			ConnectivityState: connectivity.TransientFailure,
		})
		r.settle()

		if got := r.all(t.Context(), "/s.A/M"); got != eject.next {
			t.Errorf("with %s ejected, calls go to %s, want %s", eject.name, got, eject.next)
		}
	}
}

// TestLastResort_FailedEjectedEndpoints ejects the only endpoint of a group,
// and then makes the endpoint's health check fail. No call waits for the
// endpoint.
func TestLastResort_FailedEjectedEndpoints(t *testing.T) {
	r := newRig(t)
	r.update(byVersion, "a v1", "b v2")

	for _, step := range []struct {
		err  error
		want string
	}{{nil, "ab"}, {errRefused, "a"}} {
		r.last("b:1").health(balancer.SubConnState{
			ConnectivityState: connectivity.TransientFailure,
			ConnectionError:   step.err,
		})
		r.settle()

		got := ""
		for range 20 { // b is in the group with a tenth of the calls
			got += r.where(t.Context())
		}

		if strings.Trim(got, step.want) != "" {
			t.Errorf("after the report %v calls went to %s, want only %s", step.err, got, step.want)
		}
	}
}

// TestLastResort_KeepsServing replaces an unreachable server by another
// unreachable one, many times. The fallback, or a drained instance, keeps
// serving.
func TestLastResort_KeepsServing(t *testing.T) {
	for config, told := range map[string]model.State{
		``:              {KeyState: known(), Away: &model.State{KeyState: known("z")}},
		`"drain":["z"]`: {KeyState: known("z")},
	} {
		r := newRig(t)
		for n := range 20 {
			name := fmt.Sprintf("a%02d", n)
			r.hangs[name+":1"] = true
			state := told
			state.Endpoints = append(endpointsOf(name), told.Endpoints...)
			r.updateState(config, state)
			r.pass(4 * readyTimeout / 5)

			if n == 0 {
				r.pass(readyTimeout / 5)
			}

			r.expect(t.Context(), fmt.Sprintf("%s: after %d replacements", config, n), "z")
		}
	}
}

// TestLastResort_FallbackWaitsForPrimary ends the connection to the only
// primary server, or makes its health unknown. Calls wait for the server. They
// go to the fallback after readyTimeout, or when the server refuses the
// connection.
func TestLastResort_FallbackWaitsForPrimary(t *testing.T) {
	end := func(s *fakeSubConn) { s.set(connectivity.Idle, nil) }
	asked := func(s *fakeSubConn) { // as gRPC does when a health watch is cut
		s.health(balancer.SubConnState{
			ConnectivityState: connectivity.TransientFailure,
			ConnectionError:   errUnhealthy,
		})

		s.health(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
	}
	for _, tt := range []struct {
		when           string
		hangs, refuses bool
		renew, then    func(*fakeSubConn)
		after          time.Duration
		calls          []string // where calls go at first, right after renew, and later
	}{
		{"its connection ends", true, false, end, func(s *fakeSubConn) {
			s.set(connectivity.Ready, nil)
		}, 0, []string{"a", "waits", "a"}},
		{"its connection ends, and hangs", true, false, end, nil, readyTimeout,
			[]string{"a", "waits", "b"}},
		{"its connection ends, and it refuses", false, true, end, nil, 0, []string{"a", "b", "b"}},
		{"it is asked for its health", false, false, asked, func(s *fakeSubConn) {
			s.health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		}, 0, []string{"a", "waits", "a"}},
		{"it is asked for its health, and says nothing", false, false, asked, nil, readyTimeout,
			[]string{"a", "waits", "b"}},
	} {
		r := newRig(t)
		left := false
		r.client.OnFailover = func(leave bool) { left = left || leave }
		r.updateState(``,
			model.State{KeyState: known("a"), Away: &model.State{KeyState: known("b")}})
		got := []string{r.where(t.Context())}
		r.pass(time.Second)
		r.hangs["a:1"] = tt.hangs

		if tt.refuses {
			r.down["a:1"] = errRefused
		}

		a := r.last("a:1")
		tt.renew(a)
		r.settle()
		got = append(got, r.where(t.Context()))

		if tt.then != nil {
			tt.then(a)
		}

		r.pass(tt.after)

		got = append(got, r.where(t.Context()))
		if !slices.Equal(got, tt.calls) || left != slices.Contains(got, "b") {
			t.Errorf("%s: calls go to %v, want %v, and OnFailover reported %v, want %v", tt.when,
				got, tt.calls, left, slices.Contains(got, "b"))
		}
	}
}
