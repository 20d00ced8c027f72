package balancer

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

const byLabel = `"route":[{"label":"version"}]`

// TestLanes_TakeTheirCalls makes calls while a lane's endpoints fail and
// recover, and routes and headers change (P20).
func TestLanes_TakeTheirCalls(t *testing.T) {
	r := newRig(t)
	plain := context.Background()
	byHeader := func(value string) context.Context {
		return metadata.AppendToOutgoingContext(plain, "x-lane", value)
	}
	update := func(config string) { r.update(config, "a v1", "b v1", "c v2", "d v2", "e") }

	expect := func(what string, ctx context.Context, want string) {
		t.Helper()

		if got := r.all(ctx, "/s.A/M"); got != want {
			t.Errorf("%s: calls go to %s, want %s", what, got, want)
		}
	}

	r.refuse("c", "d")
	update(looseRed)
	expect("the base", plain, "abe")
	expect("a lane that fails", lane("red"), "abe")
	expect("an unknown lane", lane("green"), "abe")
	update(strictRed)
	expect("a strict lane that fails", lane("red"),
		`etcd: no endpoint of "" in the strict lane "red" is ready: refused`)
	r.revive()
	expect("a strict lane", lane("red"), "cd")
	expect("the base beside a strict lane", plain, "abe")
	update(strictRed + `,"drain":["c","d"]`)
	expect("a strict lane that is drained", lane("red"),
		`etcd: every endpoint of "" in the strict lane "red" is drained`)
	r.refuse("a", "b", "e")
	update(``)
	expect("without lanes", lane("red"), "cd")
	update(strictRed)
	expect("a strict lane while the base fails", lane("red"), "cd")
	expect("the base that fails", plain, "refused")
	r.revive()
	update(looseRed + `,"laneHeader":"x-lane"`)
	expect("a lane by a header", byHeader("red"), "cd")
	expect("a lane by the context and a header", calloptions.WithLane(byHeader("red"), "green"),
		"abe")
	expect("a call that names an instance of another lane",
		calloptions.WithTarget(lane("green"), calloptions.Target{Instance: "c"}), "c")
	update(byLabel)
	expect("the label v1", lane("v1"), "ab")
	expect("the label v2", lane("v2"), "cd")
	expect("a call without a lane, under labels", plain, "e")
	update(`"route":[{"label":"version","strict":true}],"laneHeader":"x-lane"`)
	expect("a strict label that no endpoint has", lane("v3"),
		`etcd: no endpoint of "" is in the strict lane "v3"`)

	for _, value := range []string{"", "no lane", strings.Repeat("x", serviceconfig.MaxLane+1)} {
		expect("a header that is no lane", byHeader(value), "e")
	}

	// c or d is the first member of the subset
	for down, up := range map[string]string{"c": "d", "d": "c"} {
		update(``)
		r.revive()
		r.refuse(down)
		update(`"subset":1,` + looseRed)
		expect("a lane with a subset", lane("red"), up)
	}
}

// TestLanes_CallsWaitForNewLanes makes calls of a lane while the lane's
// endpoints connect and fail, under several plans. The calls wait at most
// readyTimeout, and not at all while other endpoints of the lane serve.
func TestLanes_CallsWaitForNewLanes(t *testing.T) {
	r := newRig(t)
	r.hangs["c:1"], r.hangs["h:1"], r.hangs["i:1"] = true, true, true
	update := func(config string, specs ...string) func() {
		return func() { r.update(config, specs...) }
	}
	pass := func() { r.pass(linger) }

	// sets states of the connection to c, one after another
	set := func(states ...connectivity.State) func() {
		return func() {
			for _, state := range states {
				r.set("c", state)
			}
		}
	}

	const another = looseRed + `,"preferZone":true`
	for _, tt := range []struct {
		when string
		do   func()
		want string
	}{
		{"the lane is new", update(looseRed, "a v1", "c v2"), "waits"},
		{"the lane hangs", pass, "a"},
		{"the lane is ready", set(connectivity.Ready), "c"},
		{"time passes", pass, "c"},
		{"the lane reconnects", set(connectivity.Idle), "waits"},
		{"the lane hangs while it reconnects", pass, "a"},
		{"the attempt ends, and the next one hangs", set(connectivity.Idle), "a"},
		{"another plan", update(another, "a v1", "c v2"), "a"},
		{"the entry changes", update(another, "a v1", "c v2 - s.A/M"), "a"},
		{"the lane is ready again", set(connectivity.Ready), "c"},
		{"the lane fails", set(connectivity.Idle, connectivity.TransientFailure), "a"},
		{"another plan while it fails", update(looseRed, "a v1", "c v2"), "a"},
		{"the lane is tried again", set(connectivity.Idle, connectivity.Connecting), "a"},
		{"the lane recovers", set(connectivity.Ready), "c"},
		{"another instance", update(looseRed, "a v1", "d v2"), "d"},
		{"only that instance is left", pass, "d"},
		{"a successor that hangs", update(looseRed, "a v1", "h v2"), "d"},
		{"the successor hangs for long", pass, "a"},
		{"no instance of the lane is left", update(looseRed, "a v1"), "a"},
		{"no instance is left for long", pass, "a"},
		{"the first new instance hangs", update(looseRed, "a v1", "i v2"), "a"},
	} {
		tt.do()
		r.expect(lane("red"), tt.when, tt.want)
	}
}
