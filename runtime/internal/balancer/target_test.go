package balancer

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// whereNamed makes a call to an instance and, if that starts a connection,
// another call once the instance is connected.
func (r *rig) whereNamed(to calloptions.Target) string {
	return r.soonBy(calloptions.WithTarget(r.t.Context(), to), "/s.A/M")
}

// TestNamed_ReachesTheInstanceOrNone follows calls that name an instance as
// endpoints change (K2).
func TestNamed_ReachesTheInstanceOrNone(t *testing.T) {
	r := newRig(t)
	r.client.Selector = func(e *endpoint.Endpoint) bool { return e.Version != "hidden" }

	update := func(sequence uint64, endpoints []*model.Backend) func() {
		return func() {
			r.updateState(`"drain":["b"]`, model.State{
				KeyState: model.KeyState{Sequence: sequence, Known: true, Endpoints: endpoints},
			})
		}
	}

	moved := append(endpointsOf("a"), backend(endpoint.Endpoint{Instance: "b", Addr: "b2:1"}))
	other := backend(endpoint.Endpoint{Instance: "c", Addr: "b2:1", Version: "hidden"})

	end := func() { r.set("b2", connectivity.Idle) }
	for _, tt := range []struct {
		when     string
		do       func()
		to       string // the instance or, if an Instance makes the call, instance@address
		sequence uint64 // the number of the state that the call waits for
		want     string // how the answer or the error begins, or "waits"
		open     string // the connections that are open after linger
	}{
		{"nothing is known", func() { r.updateState("", model.State{}) }, "a", 0, "waits", ""},
		{"the instance is registered", update(7, endpointsOf("a", "b", "h hidden")), "a", 0, "a",
			"a"},
		{"the instance is drained", nil, "b", 0, "b", "ab"},
		{"the instance is not selected", nil, "h", 7,
			`rpc error: code = Unavailable desc = etcd: instance "h" of "" is not selected`, "ab"},
		{"no instance has that id", nil, "x", 7, `etcd: no instance "x" is registered`, "ab"},
		{"an Instance has left", nil, "x@x:1", 7,
			`rpc error: code = Unavailable desc = etcd: no instance "x" is registered`, "ab"},
		{"the state is still to come", nil, "x", 8, "waits", "ab"},
		{"the instance moves, and is down", func() {
			r.refuse("b2")
			update(8, moved)()
		}, "b", 0, `etcd: instance "b" at "b2:1": refused`, "ab2"},
		{"the instance is up again", r.revive, "b", 0, "b2", "ab2"},
		{"the instance has left, and is connected", update(9, endpointsOf("a")), "b", 0, "b2",
			"ab2"},
		{"its connection has ended", end, "b", 0, `etcd: no instance "b"`, "a"},
		{"the instance is back", update(10, moved), "b", 0, "b2", "ab2"},
		{"an instance has left that no call has named", func() {
			update(11, append(moved, endpointsOf("n")...))()
			update(12, moved)()
		}, "n", 0, "n", "ab2"},
		{"its connection is closed after 5 s", nil, "n", 0, `etcd: no instance "n"`, "ab2"},
		{"another instance has the address", update(13, append(endpointsOf("a"), other)), "b", 0,
			`etcd: no instance "b"`, "a"},
	} {
		if tt.do != nil {
			tt.do()
		}

		instance, addr, _ := strings.Cut(tt.to, "@")
		got := r.whereNamed(calloptions.Target{
			Instance: instance,
			Addr:     addr,
			Sequence: tt.sequence,
		})
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s: a call to the instance %s got %q, want %q", tt.when, tt.to, got, tt.want)
		}

		r.pass(linger)

		if addrs(r.open()) != tt.open {
			t.Errorf("%s: the open connections are %s, want %s", tt.when, addrs(r.open()), tt.open)
		}
	}
}

// TestNamed_OnTheConnectionOfAnInstances uses the connection of an Instances,
// on which each call names its instance.
func TestNamed_OnTheConnectionOfAnInstances(t *testing.T) {
	r := newRig(t)
	r.client.TargetsOnly = true
	r.update("", "a", "b")

	state := stateOf(r.fakeConn).ConnectivityState
	if len(r.made) > 0 || state != connectivity.Ready {
		t.Errorf("before calls, %d connections were made and the policy is %v, want 0 and READY",
			len(r.made), state)
	}

	if got := r.where(t.Context()); !strings.Contains(got, "code = Unavailable") {
		t.Errorf("a call that names no instance got %q, want Unavailable", got)
	}

	r.expect(named("b"), "at first", "waits")

	for _, connection := range []string{"the first", "the next"} {
		r.settle()
		r.expect(named("b"), connection+" connection", "b")
		r.last("b:1").set(connectivity.Idle, nil) // the connection is lost
	}

	r.settle()
	r.update("", "a")
	r.expect(named("b"), "the instance has left, and is connected", "b")
	r.last("b:1").set(connectivity.Idle, nil)
	r.update("", "a", "b")
	_ = r.where(named("b"))
	r.settle()
	r.expect(named("b"), "the instance has left, its connection has ended, and it is back", "b")

	if got := addrs(r.open()); got != "b" {
		t.Errorf("the open connections are %s, want b", got)
	}
}

// TestNamed_InstancesAreBounded makes calls name more instances than a client
// connects to. The bound refuses no leader call.
func TestNamed_InstancesAreBounded(t *testing.T) {
	const method = "/a.B/Lead"

	r := newRig(t)
	r.client = &model.Client{
		Client:      planner.Client{Most: 2},
		TargetsOnly: true,
		Routed:      map[string]bool{method: true},
	}

	update := func(specs ...string) {
		r.updateState("",
			model.State{
				KeyState: known(specs...),
				Route:    model.Route{Instance: "d", Role: "leader"},
			})
	}

	to := func(instance string) string {
		return r.whereNamed(calloptions.Target{Instance: instance})
	}
	update("a", "b", "c", "d")

	for _, name := range []string{"a", "b", "c"} { // before a connection is made
		r.expect(named(name), "first", "waits")
	}

	r.settle()

	got := r.where(named("c"))
	if !strings.Contains(got, "code = Unavailable") ||
		!strings.Contains(got, "runtime.WithLimits") {
		t.Errorf("a call to a third instance got %q, want Unavailable by runtime.WithLimits", got)
	}

	if got := r.soonBy(t.Context(), method); got != "d" {
		t.Errorf("a call to the leader got %q, want d", got)
	}

	update("b", "c", "d")

	if got := to("c"); got == "c" {
		t.Error("the call to c reached c, want an error while b and the leader d are connected")
	}

	update("c", "d")

	if got := to("c"); got != "c" {
		t.Errorf("after b has left, a call to c got %q, want c", got)
	}

	update("e", "f")

	for _, name := range []string{"e", "f"} {
		if got := to(name); got != name {
			t.Errorf(
				"after all instances have been replaced, a call to %s got %q, want it to be reached",
				name, got)
		}
	}

	r.pass(linger)

	if addrs(r.open()) != "ef" {
		t.Errorf("the open connections are %s, want e and f, as many as the limit", addrs(r.open()))
	}

	got = r.whereBy(t.Context(), method)
	if !strings.Contains(got, `the leader "d" of "" is not registered`) {
		t.Errorf("after the leader has left, a call to it got %q, want an error", got)
	}
}

// TestNamed_CallsDoNotWaitForThePolicy makes calls while the policy handles two
// updates: 5,000 of 10,000 targets leave, and a new selector selects only one
// of the others (P10).
func TestNamed_CallsDoNotWaitForThePolicy(t *testing.T) {
	r := newRig(t)
	r.client.TargetsOnly = true

	var fleet []string
	for i := range 10_000 {
		fleet = append(fleet, fmt.Sprintf("i%04d", i))
	}

	r.update("", fleet...)

	for _, name := range fleet {
		_ = r.where(named(name))
	}

	r.settle()
	call := func() {
		if got := r.where(named("i0000")); got != "i0000" {
			t.Errorf("a call to i0000 got %q, want i0000", got)
		}

		got := r.where(named("i9999"))
		if got != "i9999" && got != "waits" { // it leaves, and stays connected
			t.Errorf("a call to i9999 got %q, want i9999, or that it waits for the next picker",
				got)
		}
	}

	var leaving atomic.Bool
	var calls sync.WaitGroup

	leaving.Store(true)
	calls.Go(func() {
		for leaving.Load() {
			call()
		}
	})

	r.policy.do(call) // the call is made with the policy's lock held
	r.update("", fleet[:5000]...)
	selects := *r.client // a copy, because calls read the earlier client
	selects.Selector = func(e *endpoint.Endpoint) bool { return e.Instance == "i0000" }
	r.client = &selects
	r.update("", fleet[:5000]...)
	r.pass(linger)
	leaving.Store(false)
	calls.Wait()

	if open := r.open(); len(open) != 5001 {
		t.Errorf(
			"%d connections are open, want those to i0000 and to the instances that have left",
			len(open))
	}
}

// TestNamed_ReachesEjectedInstances checks that health checks apply to calls
// that name their instance, and outlier detection does not.
func TestNamed_ReachesEjectedInstances(t *testing.T) {
	r := newRig(t)
	unwell := func(why error) func() {
		return func() {
			r.made[0].health(balancer.SubConnState{
				ConnectivityState: connectivity.TransientFailure,
				ConnectionError:   why,
			})
		}
	}

	again := func() { r.made[0].set(connectivity.Idle, nil) }
	for _, tt := range []struct {
		when, health string
		do           func()
		reached      bool
		others       string // what calls get that name no instance
	}{
		{"the instance is ejected", "", unwell(nil), true, "a"},
		{"it is ejected, and connected to again", "", again, true, "waits"},
		{"it does not report its health", "s.A", func() {}, true, "waits"},
		{"it is not serving", "s.A", unwell(errors.New("not serving")), false, "not serving"},
		{"it is ejected, too", "s.A", unwell(nil), false, errUnhealthy.Error()},
		{"it reconnects, and does not report its health", "s.A", again, false, "waits"},
	} {
		r.updateState("", model.State{KeyState: known("a"), Health: tt.health})
		_ = r.where(named("a"))
		r.settle()
		r.silent["a:1"] = true // outlier detection sends no reports for an ejected endpoint
		tt.do()
		r.settle()

		if got := r.where(named("a")); (got == "a") != tt.reached {
			t.Errorf("%s: a call to the instance got %q, want it to be reached: %v", tt.when, got,
				tt.reached)
		}

		r.expect(t.Context(), tt.when+", and a call names no instance", tt.others)
	}
}

// TestNamed_DuplicateIDsDifferByAddress has two endpoints with one instance id
// (K17).
func TestNamed_DuplicateIDsDifferByAddress(t *testing.T) {
	r := newRig(t)
	twin := func(addr string) *model.Backend {
		return backend(endpoint.Endpoint{Instance: "host", Addr: addr})
	}
	r.updateState(ring, model.State{
		KeyState: model.KeyState{
			Known:     true,
			Endpoints: []*model.Backend{twin("a:1"), twin("b:1")},
		},
	})

	r.reachAll()

	at := map[string]int{}
	for i := range 400 {
		at[r.where(keyed(i))]++
	}

	if at["a"] < 150 || at["b"] < 150 {
		t.Errorf("calls go to %v, want at least 150 to each of a and b", at)
	}

	for _, want := range []string{"a", "b"} {
		got := r.whereNamed(calloptions.Target{Instance: "host", Addr: want + ":1"})
		if got != want {
			t.Errorf("a call to the endpoint at %s reaches %s, want that endpoint", want, got)
		}
	}
}
