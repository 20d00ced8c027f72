package balancer

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
)

// TestMethods_SkipsEndpointsThatLackOne makes calls to endpoints that list
// different methods.
func TestMethods_SkipsEndpointsThatLackOne(t *testing.T) {
	const (
		old, add, other = "s.A/M,N", "s.A/M,N,New", "s.A/M;s.B/X"
		green           = `"route":[{"lane":"green","match":{"version":"v3"}}]`
		strictGreen     = `"route":[{"lane":"green","match":{"version":"v3"},"strict":true}]`
	)

	rollout := []string{"a - - " + old, "b - - " + add, "c - - " + old}
	lanes := []string{"a v1 - s.A/M,N", "b v1 - s.A/M,N", "c v2 - s.A/M,New", "d v2 - s.A/M,New,N",
		"e v3 - s.A/M,N"}

	// together with the lists below, more than methods.MaxTexts distinct lists
	branches := []string{"a v1 - s.A/M,Old", "b v1 - s.A/M,Old,New"}
	for n := range 12 {
		branches = append(branches, fmt.Sprintf("%d v1 pr%d s.A/M,Own%d", n, n, n))
	}

	const byBranch = `"route":[{"label":"zone"}]`
	for _, tt := range []struct {
		config, lane, method, want string
		fleet                      []string
	}{
		{byBranch, "", "/s.A/New", "b", branches},
		{byBranch, "", "/s.A/M", "ab", branches},
		{byBranch, "pr0", "/s.A/Own0", "0", branches},
		{byBranch, "pr0", "/s.A/New", "b", branches},
		{byBranch, "pr0", "/s.A/Own1", "0", branches},
		{``, "", "/s.A/New", "ab", []string{"a - - " + old, "b - - " + old}},
		{``, "", "/s.A/New", "ab", []string{"a", "b"}},
		{``, "", "/s.A/M", "abc", rollout},
		{``, "", "/s.A/New", "b", rollout},
		{``, "", "/s.C/Z", "abc", rollout},
		{``, "", "odd", "abc", rollout},
		{``, "", "/s.A/New" + strings.Repeat("m", maxMethod), "abc", rollout},
		// an endpoint without a list may serve the method
		{``, "", "/s.A/New", "ab", []string{"a", "b - - " + add, "c - - " + old}},
		{``, "", "/s.A/Gone", "a", []string{"a", "b - - " + add, "c - - " + old}},
		{``, "", "/s.A/N", "a", []string{"a - - " + old, "b - - " + other}},
		{``, "", "/s.B/X", "b", []string{"a - - " + old, "b - - " + other}},
		{`"drain":["b"]`, "", "/s.A/New", "ac", rollout}, // a and c do not list the method
		{looseRed, "", "/s.A/N", "abe", lanes},
		{looseRed, "red", "/s.A/M", "cd", lanes},
		{looseRed, "red", "/s.A/N", "d", lanes},
		{looseRed, "red", "/s.A/Gone", "cd", lanes},
		{strictGreen, "green", "/s.A/New", "e", lanes},
		{green, "green", "/s.A/New", "cd", lanes}, // the base serves the method
	} {
		r := newRig(t)
		r.update(tt.config, tt.fleet...)

		if got := r.all(lane(tt.lane), tt.method); got != tt.want {
			t.Errorf("config %q: calls of %.20s in the lane %q go to %s, want %s", tt.config,
				tt.method, tt.lane, got, tt.want)
		}
	}
}

// TestMethods_MemoryIsBounded has endpoints that all serve different methods,
// and a caller that calls all of them.
func TestMethods_MemoryIsBounded(t *testing.T) {
	var specs []string
	for i := range 3 * methods.MaxTexts {
		specs = append(specs, fmt.Sprintf("i%d - - s.A/M%d", i, i))
	}

	for _, fleet := range [][]string{specs, specs[:3]} {
		r := newRig(t)
		r.update(`"subset":20`, fleet...)

		for i := range 6 * maxMethods {
			if i == 3*maxMethods {
				r.settle() // connects to endpoints with the methods
			}

			_ = r.whereBy(t.Context(), fmt.Sprintf("/s.A/M%d", i%(3*maxMethods)))
		}

		p := r.policy
		kept := p.core.plan.base.last.Load().methods.Load()
		if len(*kept) > maxMethods || len(p.core.plan.needs()) > maxMethods {
			t.Errorf("the plan caches %d methods, and needs %d, want at most %d of each",
				len(*kept), len(p.core.plan.needs()), maxMethods)
		}

		if n := len(p.core.plan.base.texts); n > methods.MaxTexts {
			t.Errorf("the plan keeps %d method lists, want at most %d", n, methods.MaxTexts)
		}
	}
}

// TestMethods_TriesHangingServersOnce makes all servers of a method hang except
// the last. Each server is tried once (P1).
func TestMethods_TriesHangingServersOnce(t *testing.T) {
	for _, config := range []string{firstOne, `"subset":2`} {
		r := newRig(t)
		fleet := []string{"0 - - s.A/M"}
		for i := range 9 {
			name := fmt.Sprint(i + 1)
			fleet = append(fleet, name+" - - s.A/M,New")
			r.hangs[name+":1"] = i < 8
		}

		r.update(config, fleet...)

		for range 2 * len(fleet) {
			_ = r.whereBy(t.Context(), "/s.A/New")
			r.pass(attemptDelay)
		}

		r.pass(2 * linger)

		got := r.whereBy(t.Context(), "/s.A/New")
		if got != "9" || len(r.made) > len(fleet) {
			t.Errorf("config %q: calls go to %s after %d connections, want 9 after at most %d",
				config, got, len(r.made), len(fleet))
		}
	}
}

// A subset also gets servers for the methods that calls need and its own
// members lack (P1).
func TestMethods_GrowSubsets(t *testing.T) {
	r := newRig(t)
	r.update(`"subset":1`, "a - - s.A/a", "b - - s.A/b")

	for _, name := range []string{"a", "b", "a"} {
		_ = r.whereBy(t.Context(), "/s.A/"+name)
		r.pass(2 * linger)

		if got := r.whereBy(t.Context(), "/s.A/"+name); got != name {
			t.Errorf("calls of the method %s go to %s, want %s", name, got, name)
		}
	}
}
