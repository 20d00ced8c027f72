package balancer

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// ends makes endpoints of "name version zone methods", "-" for nothing.
func ends(specs ...string) []resolver.Endpoint {
	var all []resolver.Endpoint
	for _, spec := range specs {
		f := append(strings.Fields(strings.ReplaceAll(spec, "-", `""`)), `""`, `""`, `""`)
		for i := range f {
			f[i] = strings.ReplaceAll(f[i], `""`, "")
		}
		all = append(all, attr.New(&endpoint.Endpoint{
			Instance: f[0], Addr: f[0] + ":1", Version: f[1], Zone: f[2],
			Metadata: map[string]string{endpoint.MethodsName: f[3]},
		}, new(attr.Storage)))
	}
	return all
}

func mustConfig(t *testing.T, text string) *config {
	t.Helper()
	c, err := parseConfig(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var seedOfTests = maphash.MakeSeed()

// liveOf returns the endpoints that a plan calls, the last resort aside.
func liveOf(p *plan) []resolver.Endpoint { return p.endpoints[:p.live] }

func instances(endpoints []resolver.Endpoint) string {
	var all []string
	for i := range endpoints {
		all = append(all, instance(&endpoints[i]))
	}
	return strings.Join(all, "")
}

// describe writes a view, the last resort aside, as "weight: tier > tier | weight: tier".
func (v *view) describe() string {
	var groups []string
	for _, g := range v.groups {
		var tiers []string
		for _, t := range g.tiers {
			if !t.class.isLive() {
				continue
			}
			text := ""
			for _, m := range t.use.Load().members {
				text += instance(&v.plan.endpoints[m])
			}
			tiers = append(tiers, text)
		}
		if len(tiers) > 0 {
			groups = append(groups, fmt.Sprintf("%d: %s", g.weight, strings.Join(tiers, " > ")))
		}
	}
	return strings.Join(groups, " | ")
}

// goes describes where the calls of a lane and method go.
func (p *plan) goes(lane, method string) string {
	ctx := calloptions.WithLane(context.Background(), lane)
	switch r, err := p.route(&balancer.PickInfo{Ctx: ctx, FullMethodName: method}, calloptions.Of(ctx)); {
	case err != nil:
		return "fails"
	case r.then != nil:
		return r.first.describe() + ", else " + r.then.describe()
	default:
		return r.first.describe()
	}
}

// calls describes where calls go that have no lane, of a method that no endpoint names.
func (p *plan) calls() string { return p.goes("", "/s.A/M") }

func planOf(t *testing.T, config string, fleet []resolver.Endpoint) *plan {
	t.Helper()
	return makePlan(&input{service: "acme/user", config: mustConfig(t, config), client: &attr.Client{}, endpoints: fleet})
}

// fleet is five endpoints in two zones.
func fleet() []resolver.Endpoint { return ends("a v1 x", "b v1 y", "c v2 x", "d v2 y", "e - x") }

// heldOf are the addresses of some of fleet.
func heldOf(instances string) map[string]struct{} {
	held := make(map[string]struct{})
	for _, name := range instances {
		held[string(name)+":1"] = struct{}{}
	}
	return held
}

func TestPlan(t *testing.T) {
	const split = `"split":[{"match":{"version":"v2"},"weight":5},{"match":{"version":"v1"},"weight":95}]`
	for _, tt := range []struct {
		name, config, zone, want string
		reports                  string // joined
	}{
		{"nothing asked for", `{}`, "x", "1: abcde", ""},
		{"zone", `{"preferZone":true}`, "x", "1: ace > bd", ""},
		{"zone, of an unknown client", `{"preferZone":true}`, "", "1: abcde", ""},
		{"zone, with no endpoint in it", `{"preferZone":true}`, "z", "1: abcde", ""},
		{"drain", `{"drain":["a","c:1"]}`, "", "1: bde", ""},
		{"drain everything", `{"drain":["a","b","c","d","e"]}`, "", "1: abcde", "drain names all 5 endpoints and is ignored"},
		{"P12, drain names nothing", `{"drain":["x"]}`, "", "1: abcde", `drain names "x": no endpoint of "acme/user" has that name`},
		{"P12, drain names two that are not there", `{"drain":["x","a","y"]}`, "", "1: bcde", `drain names "x", "y": no endpoint of "acme/user" has that name`},
		{"P12, drain names many that are not there", `{"drain":["q","r","s","t","u","v","w"]}`, "", "1: abcde",
			`drain names "q", "r", "s", "t", "u", 2 more: no endpoint of "acme/user" has that name`},
		{"split", `{` + split + `}`, "", "5: cd | 95: ab | 0: e", ""},
		{"split, the first match counts", `{"split":[{"match":{"zone":"x"},"weight":1},{"match":{"version":"v2"},"weight":1}]}`, "", "1: ace | 1: d | 0: b", ""},
		{"split by two", `{"split":[{"match":{"zone":"x","version":"v2"},"weight":1}]}`, "", "1: c | 0: abde", ""},
		{"split by instance, address and nothing", `{"split":[{"match":{"instance":"b"},"weight":1},{"match":{"addr":"d:1"},"weight":2},{"match":{"build":""},"weight":3}]}`, "",
			"1: b | 2: d | 3: ace", ""},
		{"split that matches nothing", `{"split":[{"match":{"version":"v3"},"weight":5},{"match":{"version":"v1"},"weight":95}]}`, "", "95: ab | 0: cde",
			"split[0] matches no endpoint: the other groups have its share"},
		{"P12, split whose endpoints are drained", `{"drain":["c","d"],` + split + `}`, "", "95: ab | 0: e",
			"split[0] matches only endpoints that are drained: the other groups have its share"},
		{"everything", `{` + split + `,"preferZone":true,"drain":["e","d"]}`, "y", "5: c | 95: b > a", ""},
	} {
		p := makePlan(&input{service: "acme/user", config: mustConfig(t, tt.config), client: &attr.Client{Zone: tt.zone}, endpoints: fleet()})
		if got := p.calls(); got != tt.want || strings.Join(p.reports, "; ") != tt.reports {
			t.Errorf("%s: %s, reports %q, want %s and %q", tt.name, got, p.reports, tt.want, tt.reports)
		}
	}
	fleet := ends("a", "b")
	p := planOf(t, `{}`, fleet)
	if &p.endpoints[0] != &fleet[0] || p.calls() != "1: ab" {
		t.Error("the endpoints are copied where nothing is asked for")
	}
	p = makePlan(&input{config: mustConfig(t, `{}`), client: &attr.Client{}, endpoints: fleet, summary: &attr.Summary{Twins: 1, Twin: "b"}})
	if len(p.reports) != 1 || !strings.Contains(p.reports[0], `such as "b"`) {
		t.Errorf("two of an instance id: %q", p.reports)
	}
}

func TestPlanOfASelector(t *testing.T) {
	for _, tt := range []struct{ config, selects, want, reports string }{
		{`{}`, "ad", "1: ad", ""},
		{`{"split":[{"match":{"version":"v2"},"weight":1},{"match":{"version":"v1"},"weight":1}]}`, "ab", "1: ab",
			"split[0] matches no endpoint that is selected for this connection: the other groups have its share"},
		{`{}`, "", `etcd: none of the 5 endpoints of "acme/user" is selected for this connection`, ""},
		{`{"drain":["a"]}`, "a", `etcd: none of the 4 endpoints of "acme/user" is selected for this connection (1 more are drained)`, ""},
		{`{` + looseRed + `}`, "cd", "1: cd", "every endpoint that may be called is in a lane: calls without a lane go to all of them"},
		{`{"drain":["b"],` + looseRed + `}`, "bd", "1: b", "drain leaves no endpoint that is in no lane, and is ignored for these 1"}, // of what is selected
		{`{"drain":["b"],"minHealthyPercent":60,` + looseRed + `}`, "be", "1: e", ""},                                                 // of all that are in no lane
		{`{"drain":["c"],"minHealthyPercent":81,` + looseRed + `}`, "cd", "1: d", "every endpoint that may be called is in a lane: calls without a lane go to all of them"},
	} {
		client := &attr.Client{Selector: func(e *endpoint.Endpoint) bool { return strings.Contains(tt.selects, e.Instance) }}
		p := makePlan(&input{service: "acme/user", config: mustConfig(t, tt.config), client: client, endpoints: fleet()})
		var got string
		if p.live == 0 {
			got = p.empty.Error()
		} else {
			got = p.calls()
		}
		if got != tt.want || strings.Join(p.reports, "; ") != tt.reports {
			t.Errorf("%s of %q: %s, reports %q, want %s", tt.config, tt.selects, got, p.reports, tt.want)
		}
	}
	foreign := []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: "a:1"}}}, {Addresses: []resolver.Address{{Addr: "b:1"}}}, {}}
	in := &input{config: mustConfig(t, `{"preferZone":true,"drain":["a:1"],"split":[{"match":{"version":""},"weight":1}]}`),
		client: &attr.Client{Zone: "x", Subset: 2, Seed: seedOfTests, Selector: func(*endpoint.Endpoint) bool { return false }}, endpoints: foreign}
	if got := makePlan(in).calls(); len(strings.Fields(got)) != 2 || !strings.HasPrefix(got, "0: ") {
		t.Errorf("endpoints of other resolvers, of which nothing is known: %s", got)
	}
}

// TestTheSmallerSubsetHolds has a connection and a config ask for subsets. Each is part of every larger one, so a
// change of the size moves no more connections than it must.
func TestTheSmallerSubsetHolds(t *testing.T) {
	for _, tt := range []struct{ client, config, want int }{
		{0, 0, 5}, {-1, 0, 5}, {2, 0, 2}, {0, 2, 2}, {-1, 2, 2}, {3, 2, 2}, {2, 3, 2}, {9, 2, 2}, {2, 9, 2}, {9, 9, 5},
	} {
		text := "{}"
		if tt.config > 0 {
			text = fmt.Sprintf(`{"subset":%d}`, tt.config)
		}
		of := func(subset int) string {
			in := &input{config: mustConfig(t, text), client: &attr.Client{Subset: subset, Seed: seedOfTests}, endpoints: fleet()}
			return strings.TrimPrefix(makePlan(in).calls(), "1: ")
		}
		got, larger := of(tt.client), of(0)
		if len(got) != tt.want {
			t.Errorf("a connection's %d and a config's %d: %s", tt.client, tt.config, got)
		}
		if strings.Trim(got, larger) != "" {
			t.Errorf("%s is not part of %s", got, larger)
		}
	}
	in := &input{config: mustConfig(t, `{"subset":1,"preferZone":true,`+byVersion+`}`), client: &attr.Client{Zone: "x", Seed: seedOfTests}, endpoints: fleet()}
	if got := makePlan(in).calls(); got != "90: a > b | 10: c > d | 0: e" {
		t.Errorf("one of each group and zone: %s", got)
	}
}

// TestK4_TheSubsetComesLast is about subsets after all other passes, and endpoints that are held.
func TestK4_ADrainYieldsToWhatIsHeld(t *testing.T) {
	for _, tt := range []struct{ drain, held, want string }{
		{"a", "", "bc"},
		{"a", "b", "bc"},
		{"a", "bc", "abc"},
		{"ab", "c", "abc"},
		{"a", "abc", "bc"}, // nothing is known to live
	} {
		in := &input{service: "acme/user", config: mustConfig(t, `{"drain":["`+strings.Join(strings.Split(tt.drain, ""), `","`)+`"]}`),
			client: &attr.Client{}, endpoints: ends("a", "b", "c"), held: heldOf(tt.held)}
		if got := instances(liveOf(makePlan(in))); got != tt.want {
			t.Errorf("drain of %s while %s are held: %s is left, want %s", tt.drain, tt.held, got, tt.want)
		}
	}
}

func TestK4_TheSubsetComesLast(t *testing.T) {
	all := fleet()
	best := func(client *attr.Client, from string) string { // of some instances, the one that ranks highest
		p := &plan{in: &input{client: client}, endpoints: all}
		for _, m := range p.rank(p.all()) {
			if strings.Contains(from, instance(&all[m])) {
				return instance(&all[m])
			}
		}
		return ""
	}
	for range 50 {
		client := &attr.Client{Zone: "x", Subset: 1, Seed: maphash.MakeSeed()}
		first := best(client, "abcde")
		live := strings.ReplaceAll("abcde", first, "")
		for _, tt := range []struct {
			name, config, want string
			held               map[string]struct{}
		}{
			{"alone", `{}`, "1: " + first, nil},
			{"drained", `{"drain":["` + first + `"]}`, "1: " + best(client, live), nil},
			{"a zone has its own", `{"preferZone":true}`, "1: " + best(client, "ace") + " > " + best(client, "bd"), nil},
			{"a group has its own", `{"split":[{"match":{"version":"v2"},"weight":2},{"match":{"version":"v1"},"weight":8}]}`,
				"2: " + best(client, "cd") + " | 8: " + best(client, "ab") + " | 0: e", nil},
			{"held, with live ones beyond", `{}`, "1: " + first, heldOf(first)},
			{"held, as all are", `{}`, "1: " + first, heldOf("abcde")},
			{"another is held", `{}`, "1: " + first, heldOf(live[:1])},
		} {
			in := &input{config: mustConfig(t, tt.config), client: client, endpoints: all, held: tt.held}
			if got := makePlan(in).calls(); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
		s := &attr.State{Endpoints: all, Held: heldOf(first)}
		got := Select(client, s)
		if n := instances(got); len(got) != 2 || !strings.Contains(n, first) || !strings.Contains(n, best(client, live)) || n[0] > n[1] {
			t.Errorf("selected for another policy: %s", n)
		}
	}
	s := &attr.State{Endpoints: all}
	if got := Select(&attr.Client{}, s); &got[0] != &all[0] {
		t.Error("Select copies what nobody narrows")
	}
	if got := instances(Select(&attr.Client{Subset: 2, Selector: func(e *endpoint.Endpoint) bool { return e.Zone == "y" }}, s)); got != "bd" {
		t.Errorf("Select: %s", got)
	}
}

// TestP9_GroupsAreToldApart has two matches that print alike.
func TestP9_GroupsAreToldApart(t *testing.T) {
	var fleet []resolver.Endpoint
	for name, metadata := range map[string]map[string]string{"a": {"a": "1 b:2"}, "b": {"a": "1", "b": "2"}} {
		fleet = append(fleet, attr.New(&endpoint.Endpoint{Instance: name, Addr: name + ":1", Metadata: metadata}, new(attr.Storage)))
	}
	const one, other = `{"match":{"a":"1 b:2"},"weight":1}`, `{"match":{"b":"2","a":"1"},"weight":2}`
	for split, want := range map[string]string{one + "," + other: "1: a | 2: b", other + "," + one: "2: b | 1: a"} {
		if got := planOf(t, `{"split":[`+split+`]}`, fleet).calls(); got != want {
			t.Errorf("%s: %s, want %s", split, got, want)
		}
	}
}

// TestS7_ManyGroupsAndNamesCostOnePass bounds a plan of what a live config may hold.
func TestS7_ManyGroupsAndNamesCostOnePass(t *testing.T) {
	var split, drain []string
	for i := range 256 {
		split = append(split, fmt.Sprintf(`{"match":{"build":"b%d","version":"v9"},"weight":1}`, i))
	}
	for i := range 20_000 {
		drain = append(drain, fmt.Sprintf(`"nobody%d"`, i))
	}
	in := &input{config: mustConfig(t, `{"split":[`+strings.Join(split, ",")+`],"drain":[`+strings.Join(drain, ",")+`]}`),
		client: &attr.Client{}, endpoints: bigFleet(10_000)}
	if n := testing.AllocsPerRun(1, func() { p := makePlan(in); p.addRoute(p.base, "/s.A/M") }); n > 2500 {
		t.Errorf("%v allocations", n)
	}
}

// TestP10_ClassesOfMethodsStopAtTheirBound has every endpoint serve something else.
func TestP10_ClassesOfMethodsStopAtTheirBound(t *testing.T) {
	var specs []string
	for i := range 3000 {
		specs = append(specs, fmt.Sprintf("i%d - - s.A/M%d", i, i))
	}
	p := planOf(t, "{}", ends(specs...))
	if n := testing.AllocsPerRun(1, func() { p.classesOf(p.base.members) }); n > 10 {
		t.Errorf("%v allocations for classes that are too many", n)
	}
	for n, want := range map[int]int{methods.MaxTexts: methods.MaxTexts, methods.MaxTexts + 1: 0} {
		if got := len(p.classesOf(p.base.members[:n]).texts); got != want {
			t.Errorf("%d classes of %d, want %d", got, n, want)
		}
	}
	for i := range 3000 {
		p.addRoute(p.base, fmt.Sprintf("/s.A/M%d", i))
	}
	if routes := len(*p.base.routes.Load()); len(p.views) > 1 || routes > maxRoutes+1 {
		t.Errorf("%d views, %d routes are kept", len(p.views), routes)
	}
	// Each method is served by other endpoints, which are of few classes.
	for i := range specs {
		var served []string
		for bit := range methods.MaxTexts {
			for set := range 100 {
				if i%methods.MaxTexts == bit && set&(1<<bit) != 0 {
					served = append(served, fmt.Sprintf("M%d", set))
				}
			}
		}
		specs[i] = fmt.Sprintf("i%d - - s.A/%s", i, strings.Join(served, ","))
	}
	p = planOf(t, "{}", ends(specs...))
	for set := range 100 {
		p.addRoute(p.base, fmt.Sprintf("/s.A/M%d", set))
	}
	if len(p.views) < 2 || len(p.views) > methods.MaxTexts+2 {
		t.Errorf("%d views", len(p.views))
	}
}

// TestLongMethodsAreNotKept calls methods with names that no server has.
func TestLongMethodsAreNotKept(t *testing.T) {
	p := planOf(t, "{}", ends("a - - s.A/M", "b - - s.A/New"))
	for i := range 3 {
		if got := p.goes("", fmt.Sprintf("/s.A/%d%s", i, strings.Repeat("m", maxMethod))); got != "1: ab" {
			t.Errorf("the calls go to %s", got)
		}
	}
	if kept := *p.base.routes.Load(); len(kept) != 1 || kept[""] == nil {
		t.Errorf("%d routes are kept", len(kept))
	}
}

func TestRoutes(t *testing.T) {
	const old, add, other = "s.A/M,N", "s.A/M,N,New", "s.A/M;s.B/X"
	for _, tt := range []struct {
		name  string
		fleet []resolver.Endpoint
		want  map[string]string // endpoints by method; all of them where it is not there
	}{
		{"all alike", ends("a - - "+old, "b - - "+old), nil},
		{"nobody says", ends("a", "b"), nil},
		{"a rollout adds a method", ends("a - - "+old, "b - - "+add, "c - - "+old), map[string]string{"/s.A/New": "b"}},
		{"beside one that does not say", ends("a", "b - - "+add, "c - - "+old), map[string]string{
			"/s.A/New": "ab", "/s.A/Gone": "a", "/s.B/X": "abc",
		}},
		{"a rollout removes a method and adds a service", ends("a - - "+old, "b - - "+other), map[string]string{"/s.A/N": "a", "/s.B/X": "b"}},
	} {
		p := planOf(t, `{}`, tt.fleet)
		for _, method := range []string{"/s.A/M", "/s.A/N", "/s.A/New", "/s.A/Gone", "/s.B/X", "/s.C/Z", "odd"} {
			want, ok := tt.want[method]
			if !ok {
				want = instances(tt.fleet)
			}
			if got := p.goes("", method); got != "1: "+want {
				t.Errorf("%s: %s goes to %s, want %s", tt.name, method, got, want)
			}
		}
	}
}

func TestParseConfig(t *testing.T) {
	for _, tt := range []struct{ config, want string }{
		{`{"splits":[]}`, "unknown field"},
		{`{"split":[{"match":{"version":"v1"},"weight":0},{"match":{"version":"v2"}}]}`, "all weights are zero"},
		{`{"split":[{"weight":1}]}`, "split[0].match: is missing"},
		{`{"split":[{"match":{"version":"v1"},"weight":-1}]}`, "weight"},
		{`{"split":[{"match":{"version":1},"weight":1}]}`, "match"},
		{`{"childPolicy":[{"nope":{}}]}`, `"nope"`},
		{`{"childPolicy":[{"etcd":{}}]}`, "must not stand below"},
		{`{"childPolicy":[{"etcd_weighted":{"x":1}}]}`, "unknown field"},
		{`{"childPolicy":[{"a":{},"b":{}}]}`, "one policy an entry"},
		{`[]`, "want a JSON object"},
	} {
		if _, err := parseConfig(json.RawMessage(tt.config)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.config, err, tt.want)
		}
	}
	c := mustConfig(t, `{"subset":2,"drain":["x"],"childPolicy":[{"nope":{}},{"pick_first":{}}]}`)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustConfig(t, string(text)); !again.way.Traits().Single || again.Subset != 2 || !slices.Equal(again.Drain, c.Drain) {
		t.Errorf("marshalled and parsed again: %s", text)
	}
}

func TestSequenceKeepsShares(t *testing.T) {
	s := &snapshot{}
	for _, weight := range []uint32{5, 30, 65} {
		s.add(weight, &groupState{stay: allCalls})
	}
	for _, calls := range []int{100, 1000, 10_000} {
		var seq picking.Sequence
		seq.Shuffle()
		counts := [3]int{}
		for range calls {
			group, _ := s.choose(&calloptions.Options{}, &seq)
			counts[group]++
		}
		for group, share := range []float64{0.05, 0.30, 0.65} {
			if got := float64(counts[group]) / float64(calls); math.Abs(got-share) > 3/float64(calls) {
				t.Errorf("%d calls: the group %d got %.4f, want %.2f", calls, group, got, share)
			}
		}
	}
}

// TestUsersStayInTheirGroups has groups of a split change: users leave one that goes or loses weight, come to one that comes
// or gains some, and else stay.
func TestUsersStayInTheirGroups(t *testing.T) {
	homes := func(weights []uint32) (of []int) {
		s := &snapshot{}
		for id, weight := range weights {
			if weight > 0 {
				s.add(weight, &groupState{id: uint64(id), stay: allCalls})
			}
		}
		for user := range 10_000 {
			tied := calloptions.Of(calloptions.WithAffinity(t.Context(), fmt.Sprint(user)))
			group, _ := s.choose(&calloptions.Options{Affinity: tied.Affinity}, new(picking.Sequence))
			of = append(of, int(s.groups[group].id))
		}
		return of
	}
	before := homes([]uint32{10, 30, 60, 0})
	for _, tt := range []struct {
		weights         []uint32
		from, to, moved int // -1: any
	}{
		{[]uint32{0, 30, 60, 0}, 0, -1, 1000}, {[]uint32{10, 30, 0, 0}, 2, -1, 6000},
		{[]uint32{10, 30, 60, 100}, -1, 3, 5000}, {[]uint32{20, 30, 60, 0}, -1, 0, 818}, {[]uint32{10, 30, 50, 0}, 2, -1, 444},
	} {
		moved := 0
		for user, home := range homes(tt.weights) {
			switch was := before[user]; {
			case home == was:
			case tt.from >= 0 && was != tt.from, tt.to >= 0 && home != tt.to:
				t.Fatalf("%v: a user moves from %d to %d", tt.weights, was, home)
			default:
				moved++
			}
		}
		if math.Abs(float64(moved-tt.moved)) > 200 {
			t.Errorf("%v: %d users move, want about %d", tt.weights, moved, tt.moved)
		}
	}
}

// TestS4_WhatIsUsedStays has a connection use no more endpoints of a set than it may, and no new one take the place
// of one that it uses.
func TestS4_WhatIsUsedStays(t *testing.T) {
	known := ends("m v2", "n v2", "o v2")
	flooded := append(ends("a v1", "b v1", "c v1", "d v1", "e v1"), known...)
	split := `{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":9}]}`
	const used = "mno"
	plan := func(client *attr.Client, config string, endpoints []resolver.Endpoint, held map[string]struct{}) string {
		p := makePlan(&input{service: "acme/user", config: mustConfig(t, config), client: client, endpoints: endpoints, held: held})
		for i := range p.endpoints {
			x := newConn(address(&p.endpoints[i]), new(picking.Stats))
			if strings.Contains(used, instance(&p.endpoints[i])) {
				x.current.Store(&condition{readiness: ready})
			}
			p.conns = append(p.conns, x)
		}
		return p.calls()
	}
	for range 30 { // seeds
		client := &attr.Client{Most: 3, Seed: maphash.MakeSeed()}
		for _, tt := range []struct {
			name, config string
			endpoints    []resolver.Endpoint
			held         map[string]struct{}
			want         string
		}{
			{"a flood", `{}`, flooded, nil, "^1: mno$"},
			{"one permit is free", `{}`, flooded[:7], nil, "^1: [a-e]mn$"},
			{"each group has its share, and some at least", split, flooded, nil, `^1: [a-e]{3} \| 9: mno$`},
		} {
			if got := plan(client, tt.config, tt.endpoints, tt.held); !regexp.MustCompile(tt.want).MatchString(got) {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	for _, tt := range []struct{ most, subset, want int }{{0, 0, 8}, {8, 0, 8}, {3, 0, 3}, {3, 5, 3}, {3, 2, 2}} {
		client := &attr.Client{Most: tt.most, Subset: tt.subset, Seed: seedOfTests}
		if got := plan(client, `{}`, flooded, nil); len(got) != len("1: ")+tt.want {
			t.Errorf("at most %d, and a subset of %d: %s", tt.most, tt.subset, got)
		}
	}
}

// TestAFleetIsSpreadOverItsCallers has callers that may not use all of a large fleet use all of it together.
func TestAFleetIsSpreadOverItsCallers(t *testing.T) {
	specs := make([]string, 1000)
	for i := range specs {
		specs[i] = fmt.Sprintf("i%03d", i)
	}
	fleet := ends(specs...)
	called := make(map[string]bool)
	for range 200 {
		client := &attr.Client{Most: 50, Seed: maphash.MakeSeed()}
		for _, ep := range Select(client, &attr.State{Endpoints: fleet}) {
			called[instance(&ep)] = true
		}
	}
	if len(called) < 950 {
		t.Errorf("%d of 1,000 endpoints are used by 200 callers together", len(called))
	}
}
