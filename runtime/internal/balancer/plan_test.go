package balancer

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	_ "google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
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

func names(endpoints []resolver.Endpoint) string {
	var all []string
	for _, ep := range endpoints {
		all = append(all, instance(ep))
	}
	return strings.Join(all, "")
}

// describe writes a view as "weight: tier > tier | weight: tier".
func (v view) describe() string {
	var groups []string
	for _, g := range v.groups {
		var tiers []string
		for _, t := range g.tiers {
			tiers = append(tiers, names(t.endpoints))
		}
		groups = append(groups, fmt.Sprintf("%d: %s", g.weight, strings.Join(tiers, " > ")))
	}
	return strings.Join(groups, " | ")
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

func planOf(t *testing.T, config string, fleet []resolver.Endpoint) *plan {
	t.Helper()
	return makePlan(&input{service: "acme/user", config: mustConfig(t, config), client: &attr.Client{}, endpoints: fleet}, nil)
}

// fleet is five endpoints in two zones.
func fleet() []resolver.Endpoint { return ends("a v1 x", "b v1 y", "c v2 x", "d v2 y", "e - x") }

// TestUndividedPlan compares the plan of endpoints that nothing divides with the one that all passes make.
func TestUndividedPlan(t *testing.T) {
	fleet := ends("a v1 x s/M", "b v2 y s/M")
	summary := &attr.Summary{Methods: []string{"s/M"}}
	for _, tt := range []struct {
		name      string
		change    func(*input)
		undivided bool
	}{
		{"nothing asked for", func(*input) {}, true},
		{"another policy below", func(in *input) { in.config = mustConfig(t, `{"childPolicy":[{"pick_first":{}}]}`) }, true},
		{"room for all", func(in *input) { in.client = &attr.Client{Most: 2} }, true},
		{"some are held", func(in *input) { in.held = map[string]struct{}{"a:1": {}} }, true},
		{"too many", func(in *input) { in.client = &attr.Client{Most: 1} }, false},
		{"no summary", func(in *input) { in.summary = nil }, false},
		{"two sets of methods", func(in *input) { in.summary = &attr.Summary{Methods: []string{"s/M", "s/N"}} }, false},
		{"a selector", func(in *input) { in.client = &attr.Client{Selector: func(*endpoint.Endpoint) bool { return true }} }, false},
		{"a subset", func(in *input) { in.client = &attr.Client{Subset: 1} }, false},
		{"a subset in the config", func(in *input) { in.config = mustConfig(t, `{"subset":1}`) }, false},
		{"a drain", func(in *input) { in.config = mustConfig(t, `{"drain":["a"]}`) }, false},
		{"a split", func(in *input) { in.config = mustConfig(t, `{"split":[{"match":{"version":"v1"},"weight":1}]}`) }, false},
		{"zones", func(in *input) { in.config = mustConfig(t, `{"preferZone":true}`) }, false},
		{"lanes", func(in *input) { in.config = mustConfig(t, `{`+laneConfig+`}`) }, false},
	} {
		in := &input{service: "acme/user", config: mustConfig(t, `{}`), client: &attr.Client{}, endpoints: fleet, summary: summary}
		tt.change(in)
		if in.undivided() != tt.undivided {
			t.Errorf("%s: undivided is %v, want %v", tt.name, !tt.undivided, tt.undivided)
		}
		if !tt.undivided {
			continue
		}
		whole := *in
		whole.summary = nil
		short, long := makePlan(in, nil), makePlan(&whole, nil)
		short.in, long.in, long.shape.classes = nil, nil, nil
		if !reflect.DeepEqual(short, long) {
			t.Errorf("%s: %+v, want %+v", tt.name, short, long)
		}
	}
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
		{"P12, drain names nothing", `{"drain":["x"]}`, "", "1: abcde", `drain names "x", which is no endpoint of "acme/user"`},
		{"P12, drain names two that are not there", `{"drain":["x","a","y"]}`, "", "1: bcde", `drain names "x", "y", which are no endpoints of "acme/user"`},
		{"P12, drain names many that are not there", `{"drain":["q","r","s","t","u","v","w"]}`, "", "1: abcde",
			`drain names "q", "r", "s", "t", "u" and 2 more, which are no endpoints of "acme/user"`},
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
		p := makePlan(&input{service: "acme/user", config: mustConfig(t, tt.config), client: &attr.Client{Zone: tt.zone}, endpoints: fleet()}, nil)
		if got := p.views[0].describe(); got != tt.want || strings.Join(p.reports, "; ") != tt.reports {
			t.Errorf("%s: %s, reports %q, want %s and %q", tt.name, got, p.reports, tt.want, tt.reports)
		}
		keys := map[leafKey]bool{}
		for _, g := range p.views[0].groups {
			for _, tier := range g.tiers {
				if keys[tier.key] {
					t.Errorf("%s: two leaves have the key %v", tt.name, tier.key)
				}
				keys[tier.key] = true
			}
		}
	}
}

func TestPlanOfASelector(t *testing.T) {
	of := func(config string, selects ...string) *plan {
		client := &attr.Client{Selector: func(e *endpoint.Endpoint) bool { return slices.Contains(selects, e.Instance) }}
		return makePlan(&input{service: "acme/user", config: mustConfig(t, config), client: client, endpoints: fleet()}, nil)
	}
	text := func(p *plan) string {
		_, err := p.instead.Picker.Pick(balancer.PickInfo{})
		return err.Error()
	}
	if got := of(`{}`, "a", "d").views[0].describe(); got != "1: ad" {
		t.Errorf("a selector: %s", got)
	}
	p := of(`{"split":[{"match":{"version":"v2"},"weight":1},{"match":{"version":"v1"},"weight":1}]}`, "a", "b")
	if got := p.views[0].describe(); got != "1: ab" || len(p.reports) != 1 || !strings.Contains(p.reports[0], "no endpoint that is selected") {
		t.Errorf("a split of what is selected: %s, reports %q", got, p.reports)
	}
	if got := text(of(`{}`)); got != `etcd: none of the 5 endpoints of "acme/user" is selected for this connection` {
		t.Errorf("nothing selected: %s", got)
	}
	if got := text(of(`{"drain":["a"]}`, "a")); got != `etcd: none of the 4 endpoints of "acme/user" is selected for this connection (1 more are drained)` {
		t.Errorf("what is selected is drained: %s", got)
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
			return names(makePlan(in, nil).left) + ": " + names(makePlan(in, nil).views[0].groups[0].tiers[0].endpoints)
		}
		got, larger := of(tt.client), of(0)
		if len(got) != len("abcde: ")+tt.want {
			t.Errorf("a connection's %d and a config's %d: %s", tt.client, tt.config, got)
		}
		for _, name := range strings.TrimPrefix(got, "abcde: ") {
			if !strings.ContainsRune(strings.TrimPrefix(larger, "abcde: "), name) {
				t.Errorf("%s is not part of %s", got, larger)
			}
		}
	}
	in := &input{config: mustConfig(t, `{"subset":1,"preferZone":true,`+byVersion+`}`), client: &attr.Client{Zone: "x", Seed: seedOfTests}, endpoints: fleet()}
	if got := makePlan(in, nil).views[0].describe(); got != "90: a > b | 10: c > d | 0: e" {
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
			client: &attr.Client{}, endpoints: ends("a", "b", "c"), held: map[string]struct{}{}}
		for _, name := range strings.Split(tt.held, "") {
			in.held[name+":1"] = struct{}{}
		}
		if got := names(makePlan(in, nil).left); got != tt.want {
			t.Errorf("drain of %s while %s are held: %s is left, want %s", tt.drain, tt.held, got, tt.want)
		}
	}
}

func TestK4_TheSubsetComesLast(t *testing.T) {
	all := fleet()
	best := func(client *attr.Client, from ...string) string { // of some instances, the one that ranks highest
		var set []resolver.Endpoint
		for _, ep := range all {
			if slices.Contains(from, instance(ep)) {
				set = append(set, ep)
			}
		}
		return instance(set[rank(set, client.Seed)[0].index])
	}
	for range 50 {
		client := &attr.Client{Zone: "x", Subset: 1, Seed: maphash.MakeSeed()}
		first := best(client, "a", "b", "c", "d", "e")
		var live []string
		for _, i := range []string{"a", "b", "c", "d", "e"} {
			if i != first {
				live = append(live, i)
			}
		}
		for _, tt := range []struct {
			name, config, want string
			held               map[string]struct{}
		}{
			{"alone", `{}`, "1: " + first, nil},
			{"drained", `{"drain":["` + first + `"]}`, "1: " + best(client, live...), nil},
			{"a zone has its own", `{"preferZone":true}`, "1: " + best(client, "a", "c", "e") + " > " + best(client, "b", "d"), nil},
			{"a group has its own", `{"split":[{"match":{"version":"v2"},"weight":2},{"match":{"version":"v1"},"weight":8}]}`,
				"2: " + best(client, "c", "d") + " | 8: " + best(client, "a", "b") + " | 0: e", nil},
			{"held, with live ones beyond", `{}`, "1: " + first + " > " + best(client, live...), map[string]struct{}{first + ":1": {}}},
			{"held, as all are", `{}`, "1: " + first, map[string]struct{}{"a:1": {}, "b:1": {}, "c:1": {}, "d:1": {}, "e:1": {}}},
			{"another is held", `{}`, "1: " + first, map[string]struct{}{live[0] + ":1": {}}},
		} {
			in := &input{config: mustConfig(t, tt.config), client: client, endpoints: all, held: tt.held}
			if got := makePlan(in, nil).views[0].describe(); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
		s := &attr.State{Endpoints: all, Held: map[string]struct{}{first + ":1": {}}}
		got := Select(client, s)
		if n := names(got); len(got) != 2 || !strings.Contains(n, first) || !strings.Contains(n, best(client, live...)) || !slices.IsSortedFunc(got, func(a, b resolver.Endpoint) int {
			return strings.Compare(instance(a), instance(b))
		}) {
			t.Errorf("selected for another policy: %s", n)
		}
	}
	s := &attr.State{Endpoints: all}
	if got := Select(&attr.Client{}, s); &got[0] != &all[0] {
		t.Error("Select copies what nobody narrows")
	}
	if got := names(Select(&attr.Client{Subset: 2, Selector: func(e *endpoint.Endpoint) bool { return e.Zone == "y" }}, s)); got != "bd" {
		t.Errorf("Select: %s", got)
	}
}

// TestP9_GroupsAreToldApart has two matches that print alike.
func TestP9_GroupsAreToldApart(t *testing.T) {
	key := func(split string) string { return mustConfig(t, `{"split":`+split+`}`).splitKey }
	a := key(`[{"match":{"a":"1 b:2"},"weight":1}]`)
	b := key(`[{"match":{"a":"1","b":"2"},"weight":1}]`)
	if a == b {
		t.Errorf("both are %s", a)
	}
	if c := key(`[{"match":{"b":"2","a":"1"},"weight":7}]`); b != c {
		t.Errorf("%s and %s differ", b, c)
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
	if n := testing.AllocsPerRun(1, func() { makePlan(in, nil) }); n > 2500 {
		t.Errorf("%v allocations", n)
	}
}

// TestP10_ClassesOfMethodsStopAtTheirBound has every endpoint serve something else.
func TestP10_ClassesOfMethodsStopAtTheirBound(t *testing.T) {
	var specs []string
	for i := range 3000 {
		specs = append(specs, fmt.Sprintf("i%d - - s.A/M%d", i, i))
	}
	set := ends(specs...)
	if n := testing.AllocsPerRun(1, func() { classesOf(set) }); n > 10 {
		t.Errorf("%v allocations for classes that are too many", n)
	}
	if one := ends("a - - s.A/M", "b - - s.A/M"); len(classesOf(one)) != 1 || len(planOf(t, "{}", one).shape.classes) != 0 {
		t.Error("there are routes where all serve the same")
	}
	if classesOf(set) != nil || classesOf(set[:maxViews+1]) != nil || len(classesOf(set[:maxViews])) != maxViews {
		t.Error("the bound is another")
	}
}

func TestRoutesAreTakenOver(t *testing.T) {
	fleet := ends("a - - s.A/M", "b - - s.A/M,New")
	in := &input{config: mustConfig(t, `{}`), client: &attr.Client{}, endpoints: fleet}
	before := makePlan(in, nil)
	before.routes.methods["mark"] = 7
	if after := makePlan(in, before); after.routes.methods["mark"] != 7 {
		t.Error("the routes are made anew")
	}
}

func TestEndpointsOfOtherResolvers(t *testing.T) {
	foreign := []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: "a:1"}}}, {Addresses: []resolver.Address{{Addr: "b:1"}}}, {}}
	in := &input{config: mustConfig(t, `{"preferZone":true,"drain":["a:1"],"split":[{"match":{"version":""},"weight":1}]}`),
		client: &attr.Client{Zone: "x", Subset: 2, Seed: seedOfTests, Selector: func(*endpoint.Endpoint) bool { return false }}, endpoints: foreign}
	if p := makePlan(in, nil); len(p.views[0].groups) != 1 || len(p.views[0].groups[0].tiers[0].endpoints) != 2 {
		t.Errorf("%v", p.views)
	}
}

func TestPlanWithoutOptionsCopiesNothing(t *testing.T) {
	fleet := ends("a", "b")
	p := planOf(t, `{}`, fleet)
	if &p.views[0].groups[0].tiers[0].endpoints[0] != &fleet[0] {
		t.Error("the endpoints were copied")
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
				want = names(tt.fleet)
			}
			if got := names(p.views[p.routes.view(method)].groups[0].tiers[0].endpoints); got != want {
				t.Errorf("%s: %s goes to %s, want %s", tt.name, method, got, want)
			}
		}
	}
}

func TestRoutesAreBounded(t *testing.T) {
	var specs []string
	for i := range 100 {
		specs = append(specs, fmt.Sprintf("i%d - - s.A/M%d", i, i))
	}
	if p := planOf(t, `{}`, ends(specs...)); len(p.views) > maxViews+1 {
		t.Errorf("%d views", len(p.views))
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
	c := mustConfig(t, `{"split":[{"match":{"version":"v2"},"weight":5}],"preferZone":true,"drain":["x"],"childPolicy":[{"nope":{}},{"pick_first":{}}]}`)
	text, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if again := mustConfig(t, string(text)); again.child.builder.Name() != "pick_first" || !again.PreferZone || !slices.Equal(again.Drain, c.Drain) {
		t.Errorf("marshalled and parsed again: %s", text)
	}
}

func TestSequenceKeepsShares(t *testing.T) {
	var v viewPicker
	for _, upTo := range []uint64{5, 35, 100} {
		v.groups = append(v.groups, groupPicker{upTo, base.NewErrPicker(fmt.Errorf("%d", upTo))})
	}
	for _, calls := range []int{100, 1000, 10_000} {
		var s sequence
		s.shuffle()
		counts := map[string]int{}
		for range calls {
			_, err := v.choose(s.next()).Pick(balancer.PickInfo{})
			counts[err.Error()]++
		}
		for group, share := range map[string]float64{"5": 0.05, "35": 0.30, "100": 0.65} {
			if got := float64(counts[group]) / float64(calls); math.Abs(got-share) > 3/float64(calls) {
				t.Errorf("%d calls: the group up to %s got %.4f, want %.2f", calls, group, got, share)
			}
		}
	}
}

func TestViewsKeepTheirPlaces(t *testing.T) {
	fleet := ends("a - - S/a,b,c", "b - - S/b,z", "c - - S/c,z")
	first := planOf(t, `{}`, fleet)
	for range 100 {
		again := planOf(t, `{}`, fleet)
		for i, v := range again.views {
			if v.describe() != first.views[i].describe() {
				t.Fatalf("view %d is %s, was %s", i, v.describe(), first.views[i].describe())
			}
		}
	}
}

func TestWeightsOfARingAreBounded(t *testing.T) {
	heavy := attr.New(&endpoint.Endpoint{Addr: "h:1", Weight: math.MaxUint32}, new(attr.Storage))
	if w := weight.FromEndpoint(heavy).Weight; w > 1<<16 {
		t.Errorf("ring-hash is given the weight %d, of which it can add few", w)
	}
	if w := weightOf(heavy); w != math.MaxUint32 {
		t.Errorf("the static weight is %d", w)
	}
}

// TestS4_WhatIsUsedStays has a connection use no more endpoints of a set than it may, and no new one take the place
// of one that it uses.
func TestS4_WhatIsUsedStays(t *testing.T) {
	known := ends("m v2", "n v2", "o v2")
	flooded := append(ends("a v1", "b v1", "c v1", "d v1", "e v1"), known...)
	split := `{"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":9}]}`
	plan := func(client *attr.Client, config string, endpoints []resolver.Endpoint, held map[string]struct{}, before *plan) *plan {
		return makePlan(&input{service: "acme/user", config: mustConfig(t, config), client: client, endpoints: endpoints, held: held}, before)
	}
	for range 30 { // seeds
		client := &attr.Client{Most: 3, Seed: maphash.MakeSeed()}
		first := plan(client, `{}`, known, nil, nil)
		for _, tt := range []struct {
			name, config string
			endpoints    []resolver.Endpoint
			held         map[string]struct{}
			want         string
		}{
			{"a flood", `{}`, flooded, nil, "^1: mno$"},
			{"one place is free", `{}`, flooded[:7], nil, "^1: [a-e]mn$"},
			{"a held one may be dead", `{}`, flooded, map[string]struct{}{"o:1": {}}, "^1: mno > [a-e]mn$"},
			{"each group has its share, and some at least", split, flooded, nil, "^1: [a-e]{3} | 9: mno$"},
		} {
			if got := plan(client, tt.config, tt.endpoints, tt.held, first).views[0].describe(); !regexp.MustCompile(tt.want).MatchString(got) {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		client attr.Client
		want   int
	}{
		{"no bound", attr.Client{}, 8},
		{"room for all", attr.Client{Most: 8}, 8},
		{"too many", attr.Client{Most: 3}, 3},
		{"a subset that is larger", attr.Client{Most: 3, Subset: 5}, 3},
		{"a subset that is smaller", attr.Client{Most: 3, Subset: 2}, 2},
	} {
		tt.client.Seed = seedOfTests
		if got := names(plan(&tt.client, `{}`, flooded, nil, nil).views[0].groups[0].tiers[0].endpoints); len(got) != tt.want {
			t.Errorf("%s: %s", tt.name, got)
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
		for _, ep := range subsets(fleet, client.Seed, bounds{client.Subset, client.Most}, nil, nil)[0] {
			called[instance(ep)] = true
		}
	}
	if len(called) < 950 {
		t.Errorf("%d of 1,000 endpoints are used by 200 callers together", len(called))
	}
}
