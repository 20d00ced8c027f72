package balancer

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

const byLabel = `"route":[{"label":"version"}]`

func TestPlanOfLanes(t *testing.T) {
	const matchesNothing = `route[0] matches no endpoint: the lane "red" is empty`
	for _, tt := range []struct {
		name, config, base, red, other string // where the calls go
		reports                        string
	}{
		{"no lanes", `{}`, "1: abcde", "1: abcde", "1: abcde", ""},
		{"a lane", `{` + looseRed + `}`, "1: abe", "1: cd, else 1: abe", "1: abe", ""},
		{"a strict lane", `{` + strictRed + `}`, "1: abe", "1: cd", "1: abe", ""},
		{"two", `{"route":[{"lane":"red","match":{"version":"v2"}},{"lane":"blue","match":{"zone":"y"},"strict":true}]}`, "1: ae", "1: cd, else 1: ae", "1: ae", ""},
		{"a label", `{"route":[{"label":"build"}]}`, "1: abcde", "1: abcde", "1: abcde", ""},
		{"a strict label", `{"route":[{"label":"build","strict":true}]}`, "1: abcde", "fails", "fails", ""},
		{"nothing matches", `{"route":[{"lane":"red","match":{"version":"v3"}}]}`, "1: abcde", "1: abcde", "1: abcde", matchesNothing},
		{"nothing matches, strictly", `{"route":[{"lane":"red","match":{"version":"v3"},"strict":true}]}`, "1: abcde", "fails", "1: abcde", matchesNothing},
		{"no base", `{"route":[{"lane":"red","match":{"build":""}}]}`, "1: abcde", "1: abcde, else 1: abcde", "1: abcde",
			"every endpoint that may be called is in a lane: calls without a lane go to all of them"},
		{"the lane is drained", `{"drain":["c","d"],` + looseRed + `}`, "1: abe", "1: abe", "1: abe", ""},
		{"the strict lane is drained", `{"drain":["c","d"],` + strictRed + `}`, "1: abe", "fails", "1: abe", ""},
		{"one of each is drained", `{"drain":["a","d"],` + looseRed + `}`, "1: be", "1: c, else 1: be", "1: be", ""},
		{"the base is drained", `{"drain":["a","b","c","e"],` + looseRed + `}`, "1: abe", "1: d, else 1: abe", "1: abe",
			"drain leaves no endpoint that is in no lane, and is ignored for these 3"},
		{"all are drained", `{"drain":["a","b","c","d","e"],` + looseRed + `}`, "1: abe", "1: cd, else 1: abe", "1: abe",
			"drain names all 5 endpoints and is ignored"},
		{"zones", `{"preferZone":true,` + looseRed + `}`, "1: ae > b", "1: c > d, else 1: ae > b", "1: ae > b", ""},
		{"a split", `{"split":[{"match":{"instance":"a"},"weight":1},{"match":{"instance":"c"},"weight":2}],` + looseRed + `}`,
			"1: a | 0: be", "2: c | 0: d, else 1: a | 0: be", "1: a | 0: be", "split[1] matches only endpoints that are in a lane: the other groups have its share"},
	} {
		p := makePlan(&input{service: "acme/user", config: mustConfig(t, tt.config), client: &attr.Client{Zone: "x"}, endpoints: fleet()})
		if got := fmt.Sprintf("%s; %s; %s", p.goes("", "/s.A/M"), p.goes("red", "/s.A/M"), p.goes("green", "/s.A/M")); got != fmt.Sprintf("%s; %s; %s", tt.base, tt.red, tt.other) ||
			strings.Join(p.reports, "; ") != tt.reports {
			t.Errorf("%s: %s, reports %q, want %s; %s; %s and %q", tt.name, got, p.reports, tt.base, tt.red, tt.other, tt.reports)
		}
	}
}

// TestLanesAndMethods has lanes serve other methods than the base.
func TestLanesAndMethods(t *testing.T) {
	fleet := ends("a v1 - s.A/M,N", "b v1 - s.A/M,N", "c v2 - s.A/M,New", "d v2 - s.A/M,New,N", "e v3 - s.A/M,N")
	for _, tt := range []struct{ config, lane, method, want string }{
		{looseRed, "", "/s.A/M", "1: abe"},
		{looseRed, "", "/s.A/N", "1: abe"},
		{looseRed, "", "/s.A/New", "1: abe"}, // which says that it is not served
		{looseRed, "red", "/s.A/M", "1: cd, else 1: abe"},
		{looseRed, "red", "/s.A/N", "1: d, else 1: abe"},
		{looseRed, "red", "/s.A/New", "1: cd, else 1: abe"},
		{looseRed, "red", "/s.A/Gone", "1: cd, else 1: abe"},
		{strictRed, "red", "/s.A/N", "1: d"},
		{byLabel, "v2", "/s.A/New", "1: cd, else 1: cd"}, // there is no base
		{byLabel, "v3", "/s.A/New", "1: cd"},
		{`"route":[{"lane":"green","match":{"version":"v3"},"strict":true}]`, "green", "/s.A/New", "1: e"},
		{`"route":[{"lane":"green","match":{"version":"v3"}}]`, "green", "/s.A/New", "1: cd"},
	} {
		p := planOf(t, "{"+tt.config+"}", fleet)
		if got := p.goes(tt.lane, tt.method); got != strings.TrimPrefix(tt.want, ", else ") {
			t.Errorf("%s: %s in %q goes to %s, want %s", tt.config, tt.method, tt.lane, got, tt.want)
		}
	}
}

// TestMethodsOfLanesAreTheirOwn has branches beside a base in the midst of a rollout, each with a method of its own and
// without one that the base has.
func TestMethodsOfLanesAreTheirOwn(t *testing.T) {
	specs := []string{"a v1 - s.A/M,Old", "b v1 - s.A/M,Old,New"}
	for n := range 12 {
		p := planOf(t, `{"route":[{"label":"zone"}]}`, ends(specs...))
		for _, tt := range []struct{ lane, method, want string }{
			{"", "/s.A/New", "1: b"}, {"", "/s.A/M", "1: ab"}, {"pr0", "/s.A/Own0", "1: 0, else 1: ab"}, {"pr0", "/s.A/M", "1: 0, else 1: ab"},
			{"pr0", "/s.A/New", "1: b"}, {"pr0", "/s.A/Old", "1: ab"}, {"pr0", "/s.A/Own1", "1: 0, else 1: ab"},
		} {
			if got := p.goes(tt.lane, tt.method); (n > 0 || tt.lane == "") && got != tt.want {
				t.Errorf("%d branches: %s in %q goes to %s, want %s", n, tt.method, tt.lane, got, tt.want)
			}
		}
		specs = append(specs, fmt.Sprintf("%d v1 pr%d s.A/M,Own%d", n, n, n))
	}
	p := planOf(t, `{"route":[{"label":"zone"}]}`, ends(append(specs[:2:2], "0 v1 pr0 s.A/M,Old,Own0")...))
	if got := p.goes("pr0", "/s.A/Old"); got != "1: 0, else 1: ab" {
		t.Errorf("the branch that serves another method gets %s", got)
	}
}

// TestADrainOfTheBaseYieldsToWhatIsHeld has all of the base vanish but what is drained.
func TestADrainOfTheBaseYieldsToWhatIsHeld(t *testing.T) {
	in := &input{config: mustConfig(t, `{"drain":["a","d"],`+looseRed+`}`), client: &attr.Client{}, endpoints: fleet(), held: heldOf("be")}
	if got := instances(liveOf(makePlan(in))); got != "abce" {
		t.Errorf("%s is left", got)
	}
}

// TestLanesTakeNoPlaces has a base of which a connection may use a part.
func TestLanesTakeNoPlaces(t *testing.T) {
	var specs []string
	for i := range 400 {
		specs = append(specs, fmt.Sprintf("i%03d v%d", i, max(0, i-299)))
	}
	for _, config := range []string{`{"route":[{"label":"build"},{"lane":"red","match":{"version":"v1"}}]}`, "{" + byLabel + "}"} {
		in := &input{config: mustConfig(t, config), client: &attr.Client{Most: 100, Seed: seedOfTests}, endpoints: ends(specs...)}
		p := makePlan(in)
		uses := func(l *lane) int { return len(p.addRoute(l, "").first.groups[0].tiers[0].use.Load().members) }
		if n := uses(p.base); n != 100 {
			t.Errorf("%s: the base uses %d", config, n)
		}
		for name, l := range p.lanes {
			if n := uses(l); n > minMost {
				t.Errorf("%s: the lane %s uses %d", config, name, n)
			}
		}
	}
}

// TestPicksOfLanes has the endpoints of lanes be ready, fail and connect.
func TestPicksOfLanes(t *testing.T) {
	p, cc := newTestPolicy(t)
	refused := errors.New("refused")
	cc.down = map[string]error{"c:1": refused, "d:1": refused}
	update := func(config string) {
		_ = hand(p, mustConfig(t, "{"+config+"}"), &attr.State{Client: &attr.Client{}, Endpoints: fleet()})
		settle(p, cc)
	}
	ends := func(ctx context.Context) string {
		t.Helper()
		all := map[string]bool{}
		for range 30 {
			got, err := cc.pick(ctx, "/s.A/M")
			if err != nil {
				return err.Error()
			}
			all[got[:1]] = true
		}
		text := ""
		for _, name := range []string{"a", "b", "c", "d", "e"} {
			if all[name] {
				text += name
			}
		}
		return text
	}
	plain := context.Background()
	red, green := calloptions.WithLane(plain, "red"), calloptions.WithLane(plain, "green")
	byHeader := metadata.AppendToOutgoingContext(plain, "x-lane", "red")
	expect := func(name string, ctx context.Context, want string) {
		t.Helper()
		if got := ends(ctx); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	update(looseRed)
	expect("the base", plain, "abe")
	expect("a lane that fails", red, "abe")
	expect("an unknown lane", green, "abe")
	update(strictRed)
	expect("a strict lane that fails", red, `etcd: no endpoint of "" in the lane "red", which is strict, is ready: refused`)
	cc.mu.Lock()
	cc.down = nil
	cc.mu.Unlock()
	for _, s := range cc.open() {
		if s.addrs[0].Addr == "c:1" || s.addrs[0].Addr == "d:1" {
			s.set(connectivity.Idle, nil)
		}
	}
	settle(p, cc)
	expect("a strict lane", red, "cd")
	expect("the base beside it", plain, "abe")
	update(looseRed + `,"laneHeader":"x-lane"`)
	expect("a lane", red, "cd")
	expect("a lane by a header", byHeader, "cd")
	expect("a lane by both", calloptions.WithLane(byHeader, "green"), "abe")
	_, _ = cc.pick(calloptions.WithTarget(plain, calloptions.Target{Instance: "c"}), "/s.A/M")
	settle(p, cc)
	expect("a target in a lane", calloptions.WithTarget(calloptions.WithLane(plain, "green"), calloptions.Target{Instance: "c"}), "c")
	update(byLabel)
	expect("a label", calloptions.WithLane(plain, "v1"), "ab")
	expect("another", calloptions.WithLane(plain, "v2"), "cd")
	expect("what has none", plain, "e")
	update(`"route":[{"label":"version","strict":true}]`)
	expect("a strict label of which there is nothing", calloptions.WithLane(plain, "v3"), `etcd: no endpoint of "" is in the lane "v3", which is strict`)
	update(`"route":[{"label":"version","strict":true}],"laneHeader":"x-lane"`)
	for _, value := range []string{"", "no lane", strings.Repeat("x", serviceconfig.MaxLane+1)} {
		expect("a header that is no lane", metadata.AppendToOutgoingContext(plain, "x-lane", value), "e")
	}
}

// TestANewLaneIsWaitedFor has calls of a lane wait for its answer while it connects, and no longer: also where another plan
// follows, or what it serves changes.
func TestANewLaneIsWaitedFor(t *testing.T) {
	p, cc := newTestPolicy(t)
	cc.hangs = map[string]bool{"c:1": true}
	now := time.Now()
	p.now = func() time.Time { return now }
	pass := func() { now = now.Add(5 * time.Second); p.do(func() { p.core.expire(now) }) }
	update := func(config string, specs ...string) func() {
		return func() {
			_ = hand(p, mustConfig(t, "{"+config+"}"), &attr.State{Client: &attr.Client{}, Endpoints: ends(specs...)})
		}
	}
	set := func(states ...connectivity.State) func() { // of the lane's connection
		return func() {
			for _, state := range states {
				for _, s := range cc.open() {
					if s.addrs[0].Addr == "c:1" {
						s.set(state, errors.New("refused"))
					}
				}
				settle(p, cc)
			}
		}
	}
	const another, waits = looseRed + `,"preferZone":true`, "no SubConn is available"
	for _, tt := range []struct {
		name string
		do   func()
		want string
	}{
		{"new", update(looseRed, "a v1", "c v2"), waits},
		{"hangs", pass, "a:1"},
		{"answers", set(connectivity.Ready), "c:1"},
		{"is told again", pass, "c:1"},
		{"connects anew", set(connectivity.Idle), waits},
		{"hangs meanwhile", pass, "a:1"},
		{"another plan", update(another, "a v1", "c v2"), "a:1"},
		{"hangs in it", pass, "a:1"},
		{"says something else", update(another, "a v1", "c v2 - s.A/M"), "a:1"},
		{"is back", set(connectivity.Ready), "c:1"},
		{"fails", set(connectivity.Idle, connectivity.TransientFailure), "a:1"},
		{"another plan while it fails", update(looseRed, "a v1", "c v2"), "a:1"},
		{"is tried again", set(connectivity.Idle, connectivity.Connecting), "a:1"},
		{"is back again", set(connectivity.Ready), "c:1"},
		{"another instance", update(looseRed, "a v1", "d v2"), "d:1"},
	} {
		tt.do()
		settle(p, cc)
		got, err := cc.pick(calloptions.WithLane(t.Context(), "red"), "/s.A/M")
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// TestWhatIsNewIsWaitedForBesideWhatServes has an instance come that alone is in a lane, or has a method: while it connects, calls go
// where they went, but for those that nothing else serves.
func TestWhatIsNewIsWaitedForBesideWhatServes(t *testing.T) {
	red := calloptions.WithLane(t.Context(), "red")
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		fleets [2][]string
		want   string
	}{
		{"a lane", red, [2][]string{{"a v1"}, {"a v1", "n v2"}}, "a:1"},
		{"a lane that all others have left", red, [2][]string{{"a v1", "b v2"}, {"a v1", "n v2"}}, "b:1"},
		{"a method", t.Context(), [2][]string{{"a v1 - s.A/L"}, {"a v1 - s.A/L", "n v1 - s.A/L,M"}}, ""},
	} {
		p, cc := newTestPolicy(t)
		cc.hangs = map[string]bool{"n:1": true}
		now := time.Now()
		p.now = func() time.Time { return now }
		where := func() string {
			p.do(func() { p.core.expire(now) })
			settle(p, cc)
			addr, _ := cc.pick(tt.ctx, "/s.A/M")
			return addr
		}
		for _, fleet := range tt.fleets {
			_ = hand(p, mustConfig(t, "{"+looseRed+"}"), &attr.State{Client: &attr.Client{}, Endpoints: ends(fleet...)})
			_ = where()
		}
		for range 2 {
			if got := where(); got != tt.want {
				t.Errorf("%s: a call goes to %q, want %q", tt.name, got, tt.want)
			}
			now = now.Add(knownWithin)
		}
	}
}

// TestWhatALaneLeavesToTheBaseIsServed has the only endpoint of the base that is in use be another, which hangs: calls of a
// lane that is down go where those of the base do.
func TestWhatALaneLeavesToTheBaseIsServed(t *testing.T) {
	for range 20 { // seeds
		p, cc := newTestPolicy(t)
		cc.down["r:1"], cc.hangs = errors.New("refused"), map[string]bool{"b:1": true}
		client := &attr.Client{Subset: 1, Seed: maphash.MakeSeed()}
		red := func() string {
			addr, _ := cc.pick(calloptions.WithLane(t.Context(), "red"), "/s.A/M")
			return addr
		}
		for _, fleet := range [][]string{{"a v1", "r v2"}, {"a v1", "b v1", "r v2"}} {
			_ = hand(p, mustConfig(t, "{"+looseRed+"}"), &attr.State{Client: client, Endpoints: ends(fleet...)})
			_ = red() // asks for a view
			settle(p, cc)
		}
		base, err := cc.pick(t.Context(), "/s.A/M")
		if got := red(); err != nil || got != base {
			t.Fatalf("a call of the base goes to %q, %v, and one of the lane to %q", base, err, got)
		}
	}
}

// BenchmarkPlanOfLanes makes a plan of 10,000 endpoints: with a label that a hundredth of them have, and with as many
// routes as a config may hold, each of which matches all.
func BenchmarkPlanOfLanes(b *testing.B) {
	var specs []string
	for i := range 10_000 {
		version := "-"
		if i%100 == 0 {
			version = fmt.Sprintf("v%d", i/1000)
		}
		specs = append(specs, fmt.Sprintf("i%d %s", i, version))
	}
	fleet := ends(specs...)
	var routes []string
	for i := range serviceconfig.MaxRoutes {
		routes = append(routes, fmt.Sprintf(`{"lane":"l%d","match":{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":""}}`, i))
	}
	for name, config := range map[string]string{"none": `{}`, "label": "{" + byLabel + "}", "hostile": `{"route":[` + strings.Join(routes, ",") + `]}`} {
		c, err := parseConfig([]byte(config))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				makePlan(&input{config: c, client: &attr.Client{}, endpoints: fleet})
			}
		})
	}
}
