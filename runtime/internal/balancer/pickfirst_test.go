package balancer

import (
	"fmt"
	"hash/maphash"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// TestPickFirst connects to one instance at a time, in order (S8). After each
// step it waits until unused connections are closed.
func TestPickFirst(t *testing.T) {
	r := newRig(t)
	update := func(specs ...string) func() { return func() { r.update(firstOne, specs...) } }
	update("a", "b", "c")()

	if len(r.made) != 1 {
		t.Errorf("at first %d connections were made, want 1", len(r.made))
	}

	for _, step := range []struct {
		what          string
		do            func()
		picks, opened string
	}{
		{"an instance before a comes", update("0", "a", "b", "c"), "a", "a"},
		{"a fails", func() { r.refuse("a") }, "0", "0"},
		{"0 fails, too", func() { r.refuse("0") }, "b", "b"},
		{"a and 0 are up again", r.revive, "b", "b"},
		{"b leaves", update("0", "a", "c"), "0", "0"},
		{"an instance that a call names comes first", func() {
			update("+", "0", "a")()
			r.whereNamed(calloptions.Target{Instance: "+"})
		}, "0", "+0"},
		{"entries change", update("+", "0", "b"), "0", "+0"},
	} {
		step.do()

		for range 3 {
			r.pass(linger)
		}

		r.expect(t.Context(), step.what, step.picks)

		if addrs(r.open()) != step.opened {
			t.Errorf("%s: the open connections are %s, want %s", step.what, addrs(r.open()),
				step.opened)
		}
	}
}

// TestPickFirst_ForgetsBackoffs ends the connection to the server in use after
// the first server is up again. No call waits for the backoff after the last
// attempt to connect to the first server.
func TestPickFirst_ForgetsBackoffs(t *testing.T) {
	r := newRig(t)
	r.update(firstOne, "a", "b")
	r.refuse("a")
	r.expect(t.Context(), "while a is down", "b")
	clear(r.down)
	r.refuse("b")
	r.expect(t.Context(), "once a is up and b is down", "a")
}

// TestPickFirst_NextIsTriedInParallel calls a lane whose instances all hang
// except the last. After each attemptDelay, one more instance is tried in
// parallel, so that calls do not wait for one instance after another.
func TestPickFirst_NextIsTriedInParallel(t *testing.T) {
	r := newRig(t)
	for _, name := range "abcde" {
		r.hangs[string(name)+":1"] = true
	}

	r.update(firstOne+`,`+looseRed, "base v1", "a v2", "b v2", "c v2", "d v2", "e v2", "f v2")
	r.expect(lane("red"), "at first", "waits")
	r.settle()

	for i, want := range []struct {
		after time.Duration
		made  int // the number of connections made, without the base's
		call  string
	}{
		{0, 1, "waits"}, {attemptDelay - 1, 1, "waits"}, {1, 2, "waits"}, {attemptDelay - 1, 2,
			"waits"}, {1, 3, "waits"},
		{attemptDelay, 4, "waits"}, {attemptDelay, 5, "base"}, {attemptDelay, 6, "f"}, {
			attemptDelay, 6, "f"},
	} {
		r.pass(want.after)

		if len(r.made)-1 != want.made {
			t.Errorf("at step %d, %d connections were made, want %d", i, len(r.made)-1, want.made)
		}

		r.expect(lane("red"), fmt.Sprint("at step ", i), want.call)
	}
}

// TestPickFirst_NextZoneIsTriedInParallel makes more instances of the client's
// zone hang than are tried concurrently.
func TestPickFirst_NextZoneIsTriedInParallel(t *testing.T) {
	r := newRig(t)
	specs := []string{"far - y"}
	for i := range minSilent + 8 {
		name := fmt.Sprint("near", i)
		r.hangs[name+":1"] = true
		specs = append(specs, name+" - x")
	}

	r.update(firstOne+`,"preferZone":true`, specs...)

	for range minSilent + 8 {
		r.pass(attemptDelay)
	}

	r.expect(t.Context(), "while the zone's instances hang", "far")
}

// TestPickFirst_IsShuffled checks that clients order instances differently, and
// that a client keeps its order when one leaves.
func TestPickFirst_IsShuffled(t *testing.T) {
	first := map[string]int{}
	for range 100 {
		in := inputOf(
			mustConfig(t, `{"childPolicy":[{"pick_first":{"shuffleAddressList":true}}]}`),
			planner.Client{Seed: maphash.MakeSeed()}, endpointsOf("a", "b", "c", "d", "e"))
		firstOf := func() string {
			p := makePlan(in)
			p.base.open()

			return p.All[p.base.groups[0][0].Members[0]].Endpoint.Instance
		}

		name := firstOf()
		first[name]++
		in.Endpoints = in.Endpoints[:4]

		if name != "e" && firstOf() != name {
			t.Errorf("after e has left, %s is no longer first, want the same order", name)
		}
	}

	if len(first) != 5 {
		t.Errorf("the first instances of 100 clients are %v, want all five instances", first)
	}
}
