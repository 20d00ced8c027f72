package balancer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

const (
	redIsV2    = `"route":[{"lane":"red","match":{"version":"v2"}}]`
	strictRed  = `"route":[{"lane":"red","match":{"version":"v2"},"strict":true}]`
	byLabel    = `"route":[{"label":"version"}]`
	everyone   = `"route":[{"lane":"red","match":{"build":""}}]`
	redAndBlue = `"route":[{"lane":"red","match":{"version":"v2"}},{"lane":"blue","match":{"zone":"y"},"strict":true}]`
)

// goes describes where the calls of a lane and method go.
func (p *plan) goes(lane, method string) string {
	base := p.views[p.routes.view(method)].describe()
	if p.lanes == nil || lane == "" {
		return base
	}
	switch v := p.lanes.view(lane, method); {
	case v == noView:
		return "fails"
	case v == theBase:
		return base
	case p.views[v].strict:
		return p.views[v].describe()
	default:
		return p.views[v].describe() + ", else " + base
	}
}

func TestPlanOfLanes(t *testing.T) {
	const matchesNothing = `route[0] matches no endpoint: the lane "red" is empty`
	for _, tt := range []struct {
		name, config, base, red, other string // where the calls go
		reports                        string
	}{
		{"no lanes", `{}`, "1: abcde", "1: abcde", "1: abcde", ""},
		{"a lane", `{` + redIsV2 + `}`, "1: abe", "1: cd, else 1: abe", "1: abe", ""},
		{"a strict lane", `{` + strictRed + `}`, "1: abe", "1: cd", "1: abe", ""},
		{"two", `{` + redAndBlue + `}`, "1: ae", "1: cd, else 1: ae", "1: ae", ""},
		{"a label", `{"route":[{"label":"build"}]}`, "1: abcde", "1: abcde", "1: abcde", ""},
		{"a strict label", `{"route":[{"label":"build","strict":true}]}`, "1: abcde", "fails", "fails", ""},
		{"nothing matches", `{"route":[{"lane":"red","match":{"version":"v3"}}]}`, "1: abcde", "1: abcde", "1: abcde", matchesNothing},
		{"nothing matches, strictly", `{"route":[{"lane":"red","match":{"version":"v3"},"strict":true}]}`, "1: abcde", "fails", "1: abcde", matchesNothing},
		{"no base", `{` + everyone + `}`, "1: abcde", "1: abcde, else 1: abcde", "1: abcde",
			"every endpoint that may be called is in a lane: calls without a lane go to all of them"},
		{"the lane is drained", `{"drain":["c","d"],` + redIsV2 + `}`, "1: abe", "1: abe", "1: abe", ""},
		{"the strict lane is drained", `{"drain":["c","d"],` + strictRed + `}`, "1: abe", "fails", "1: abe", ""},
		{"one of each is drained", `{"drain":["a","d"],` + redIsV2 + `}`, "1: be", "1: c, else 1: be", "1: be", ""},
		{"the base is drained", `{"drain":["a","b","c","e"],` + redIsV2 + `}`, "1: abe", "1: d, else 1: abe", "1: abe",
			"drain leaves no endpoint that is in no lane, and is ignored for these 3"},
		{"all are drained", `{"drain":["a","b","c","d","e"],` + redIsV2 + `}`, "1: abe", "1: cd, else 1: abe", "1: abe",
			"drain names all 5 endpoints and is ignored"},
		{"zones", `{"preferZone":true,` + redIsV2 + `}`, "1: ae > b", "1: c > d, else 1: ae > b", "1: ae > b", ""},
		{"a split", `{"split":[{"match":{"instance":"a"},"weight":1},{"match":{"instance":"c"},"weight":2}],` + redIsV2 + `}`,
			"1: a | 0: be", "2: c | 0: d, else 1: a | 0: be", "1: a | 0: be", "split[1] matches only endpoints that are in a lane: the other groups have its share"},
	} {
		p := makePlan(&input{service: "acme/user", config: mustConfig(t, tt.config), client: &attr.Client{Zone: "x"}, endpoints: fleet()}, nil)
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
		{redIsV2, "", "/s.A/M", "1: abe"},
		{redIsV2, "", "/s.A/N", "1: abe"},
		{redIsV2, "", "/s.A/New", "1: abe"}, // which says that it is not served
		{redIsV2, "red", "/s.A/M", "1: cd, else 1: abe"},
		{redIsV2, "red", "/s.A/N", "1: d, else 1: abe"},
		{redIsV2, "red", "/s.A/New", "1: cd, else 1: abe"},
		{redIsV2, "red", "/s.A/Gone", "1: cd, else 1: abe"},
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
	m := newMachine(t)
	for n := range 12 {
		m.update(`"route":[{"label":"zone"}]`, "", specs...)
		p := m.core.plan()
		if m.core.waiting != nil {
			t.Fatalf("the branch %d makes all others connect anew", n)
		}
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
	m.update(`"route":[{"label":"zone"}]`, "", append(specs[:2:2], "0 v1 pr0 s.A/M,Old,Own0")...)
	if got := m.core.plan().goes("pr0", "/s.A/Old"); got != "1: 0, else 1: ab" || m.core.waiting != nil {
		t.Errorf("the branch that serves another method gets %s, waiting: %v", got, m.core.waiting != nil)
	}
}

func TestLanesOfASelector(t *testing.T) {
	client := &attr.Client{Selector: func(e *endpoint.Endpoint) bool { return e.Version == "v2" }}
	p := makePlan(&input{service: "acme/user", config: mustConfig(t, "{"+redIsV2+"}"), client: client, endpoints: fleet()}, nil)
	if got := p.goes("", "/s.A/M"); got != "1: cd" || len(p.reports) != 1 {
		t.Errorf("%s, reports %q", got, p.reports)
	}
}

// TestADrainOfTheSelectedBase has a drain leave none of the base that a connection's selector selects.
func TestADrainOfTheSelectedBase(t *testing.T) {
	client := &attr.Client{Selector: func(e *endpoint.Endpoint) bool { return e.Zone == "y" }}
	in := &input{service: "acme/user", config: mustConfig(t, `{"drain":["b"],`+redIsV2+`}`), client: client, endpoints: fleet()}
	p := makePlan(in, nil)
	if got := p.goes("", "/s.A/M"); got != "1: b" || len(p.reports) != 1 || !strings.HasPrefix(p.reports[0], "drain leaves no endpoint that is in no lane") {
		t.Errorf("%s, reports %q", got, p.reports)
	}
}

// TestADrainOfTheBaseYieldsToWhatIsHeld has all of the base vanish but what is drained.
func TestADrainOfTheBaseYieldsToWhatIsHeld(t *testing.T) {
	in := &input{service: "acme/user", config: mustConfig(t, `{"drain":["a","d"],`+redIsV2+`}`), client: &attr.Client{}, endpoints: fleet(),
		held: map[string]struct{}{"b:1": {}, "e:1": {}}}
	if got := names(makePlan(in, nil).left); got != "abce" {
		t.Errorf("%s is left", got)
	}
}

// TestLanesTakeNoPlaces has a base of which a connection may use a part.
func TestLanesTakeNoPlaces(t *testing.T) {
	var specs []string
	for i := range 400 {
		specs = append(specs, fmt.Sprintf("i%03d v%d", i, max(0, i-299)))
	}
	client := &attr.Client{Most: 100, Seed: seedOfTests}
	in := &input{service: "acme/user", config: mustConfig(t, `{"route":[{"label":"build"},{"lane":"red","match":{"version":"v1"}}]}`), client: client, endpoints: ends(specs...)}
	if n := len(makePlan(in, nil).views[0].groups[0].tiers[0].endpoints); n != 100 {
		t.Errorf("the base uses %d", n)
	}
	in.config = mustConfig(t, "{"+byLabel+"}")
	p := makePlan(in, nil)
	if n := len(p.views[0].groups[0].tiers[0].endpoints); n != 100 || len(p.lanes.placed.Made) != 101 {
		t.Errorf("%d of %d lanes", n, len(p.lanes.placed.Made))
	}
	for _, v := range p.views[1:] {
		if n := len(v.groups[0].tiers[0].endpoints); n > minMost {
			t.Errorf("the lane %s uses %d", v.lane, n)
		}
	}
}

// TestALaneComesAndGoes has a lane that labels make build leaves of its own and no others.
func TestALaneComesAndGoes(t *testing.T) {
	m := newMachine(t)
	m.update(`"route":[{"label":"build"}]`, "", "a", "b")
	for _, tt := range []struct {
		build string
		want  []verb
	}{{"x", []verb{buildLeaf}}, {"y", []verb{buildLeaf, closeLeaf}}, {"", []verb{closeLeaf}}} {
		fleet := ends("a", "b")
		if tt.build != "" {
			fleet = append(fleet, attr.New(&endpoint.Endpoint{Instance: "c", Addr: "c:1", Metadata: map[string]string{"build": tt.build}}, new(attr.Storage)))
		}
		in := &input{config: m.core.plan().in.config, client: &attr.Client{}, endpoints: fleet}
		copy(in.endpoints, m.core.plan().in.endpoints[:2])
		e := m.core.update(makePlan(in, m.core.plan()), m.now)
		var did []verb
		for _, le := range e.leaves {
			did = append(did, le.do)
		}
		if !slices.Equal(did, tt.want) || m.core.waiting != nil {
			t.Errorf("%q: %v, want %v", tt.build, did, tt.want)
		}
		m.take(e)
	}
}

// TestPicksOfLanes has the endpoints of lanes be ready, fail and connect.
func TestPicksOfLanes(t *testing.T) {
	p, cc := newPolicy(t)
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
	red, green := WithLane(plain, "red"), WithLane(plain, "green")
	byHeader := metadata.AppendToOutgoingContext(plain, "x-lane", "red")
	expect := func(name string, ctx context.Context, want string) {
		t.Helper()
		if got := ends(ctx); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	update(redIsV2)
	expect("the base", plain, "abe")
	expect("a lane that fails", red, "abe")
	expect("an unknown lane", green, "abe")
	update(strictRed)
	expect("a strict lane that fails", red, `etcd: no endpoint of "" in the lane "red", which is strict, is ready: refused`)
	cc.mu.Lock()
	cc.down = nil
	cc.mu.Unlock()
	for _, s := range cc.open() {
		if slices.ContainsFunc(s.addrs, func(a resolver.Address) bool { return a.Addr == "c:1" || a.Addr == "d:1" }) {
			s.set(connectivity.Idle, nil)
		}
	}
	settle(p, cc)
	expect("a strict lane", red, "cd")
	expect("the base beside it", plain, "abe")
	update(redIsV2 + `,"laneHeader":"x-lane"`)
	expect("a lane", red, "cd")
	expect("a lane by a header", byHeader, "cd")
	expect("a lane by both", WithLane(byHeader, "green"), "abe")
	_, _ = cc.pick(WithTarget(plain, "c"), "/s.A/M")
	settle(p, cc)
	expect("a target in a lane", WithTarget(WithLane(plain, "green"), "c"), "c")
	update(byLabel)
	expect("a label", WithLane(plain, "v1"), "ab")
	expect("another", WithLane(plain, "v2"), "cd")
	expect("what has none", plain, "e")
	update(`"route":[{"label":"version","strict":true}]`)
	expect("a strict label of which there is nothing", WithLane(plain, "v3"), `etcd: no endpoint of "" is in the lane "v3", which is strict`)
}

// red returns where a call of the lane red goes.
func (m *machine) red() string {
	out := (&policy{stations: newStations("acme/user")}).assemble(m.core.serving).Picker.(*picker)
	v, err := out.view(&wishes{lane: "red"}, balancer.PickInfo{Ctx: context.Background(), FullMethodName: "/s.A/M"})
	switch {
	case err != nil:
		return err.Error()
	case v == &out.views[0]:
		return "the base"
	case len(v.groups) == 0:
		return "waits"
	}
	return "the lane"
}

// tellLane has the leaves of a lane tell a state.
func (m *machine) tellLane(g *generation, lane string, s connectivity.State) {
	for key, l := range g.leaves {
		if key.lane == lane {
			m.take(m.core.leafState(l, balancer.State{ConnectivityState: s, Picker: fixedPicker{}}))
		}
	}
}

// TestALaneThatHangsIsNotNewAgain has the policy's shape change while the instance of a lane hangs: its calls go on to
// the base.
func TestALaneThatHangsIsNotNewAgain(t *testing.T) {
	const another = redIsV2 + `,"preferZone":true`
	for _, before := range []connectivity.State{failed, ready} {
		m := newMachine(t)
		m.update(redIsV2, "", "a v1", "c v2")
		m.tellLane(m.core.serving, "", ready)
		m.tellLane(m.core.serving, "red", before)
		m.update(another, "", "a v1", "c v2")
		m.tellLane(m.core.waiting, "", ready)
		if before == failed && m.red() != "the base" {
			t.Errorf("%v: %s, while another plan waits", before, m.red())
		}
		m.now = m.now.Add(settleWithin)
		m.take(m.core.expire(m.now))
		if got := m.red(); got != "the base" || m.core.waiting != nil {
			t.Errorf("%v: %s", before, got)
		}
		m.update(another, "", "a v1", "d v2 - s.A/M")
		if got := m.red(); got != "the base" {
			t.Errorf("%v: once it serves other methods: %s", before, got)
		}
		m.tellLane(m.core.serving, "red", ready)
		if got := m.red(); got != "the lane" {
			t.Errorf("%v: once it serves: %s", before, got)
		}
		m.update(another, "", "a v1", "d v2 - s.A/M,N")
		if got := m.red(); got != "waits" {
			t.Errorf("%v: a lane that served until now: %s", before, got)
		}
	}
}

// TestANewLaneIsWaitedFor has calls of a lane wait for its first connection, and no longer.
func TestANewLaneIsWaitedFor(t *testing.T) {
	m := newMachine(t)
	m.update(redIsV2, "", "a v1", "c v2")
	for _, tt := range []struct {
		lane  string
		state connectivity.State
		want  string
	}{
		{"", ready, "waits"}, {"red", idle, "the lane"}, {"red", trying, "waits"}, {"red", ready, "the lane"}, {"red", trying, "the base"}, {"red", failed, "the base"}, {"red", idle, "the lane"},
	} {
		if m.tellLane(m.core.serving, tt.lane, tt.state); m.red() != tt.want {
			t.Errorf("once %q is %v: %s, want %s", tt.lane, tt.state, m.red(), tt.want)
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
				makePlan(&input{config: c, client: &attr.Client{}, endpoints: fleet}, nil)
			}
		})
	}
}
