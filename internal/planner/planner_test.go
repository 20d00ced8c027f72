package planner

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

type endpoints = []*endpoint.Endpoint

// ends makes endpoints from texts such as "name version zone", where "-" stands
// for an empty field.
func ends(specs ...string) (all endpoints) {
	for _, spec := range specs {
		f := append(strings.Fields(spec), "-", "-")
		for i := range f {
			f[i] = strings.TrimPrefix(f[i], "-")
		}

		all = append(all,
			&endpoint.Endpoint{Instance: f[0], Addr: f[0] + ":1", Version: f[1], Zone: f[2]})
	}

	return all
}

func config(t *testing.T, text string) *Config {
	t.Helper()

	e, err := serviceconfig.ParseEtcd(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}

	return NewConfig(e)
}

// input returns the input of tests: a client in zone x, and five endpoints in
// two zones.
func input(t *testing.T, text string) *Input[*endpoint.Endpoint] {
	t.Helper()

	return &Input[*endpoint.Endpoint]{
		Service: "acme/user", Config: config(t, text), Client: &Client{Zone: "x", Seed: seed},
		Endpoints: ends("a v1 x", "b v1 y", "c v2 x", "d v2 y", "e - x"),
		Of:        func(e **endpoint.Endpoint) *endpoint.Endpoint { return *e },
	}
}

var seed = maphash.MakeSeed()

func instances(all endpoints) string {
	var text strings.Builder
	for _, e := range all {
		text.WriteString(e.Instance)
	}

	return text.String()
}

// targets formats the targets of a lane's calls as "weight: tier > tier |
// weight: tier".
func targets(p *Plan[*endpoint.Endpoint], lane string) string {
	l := p.Lane(lane)
	if l == nil {
		return "fails"
	}

	var groups []string
	for _, g := range p.Groups(l) {
		var tiers []string
		for _, t := range g.Tiers {
			text := ""
			for i, m := range t.Members {
				if t.Most == 0 || i < t.Most {
					text += p.All[m].Instance
				}
			}

			tiers = append(tiers, text)
		}

		groups = append(groups, fmt.Sprintf("%d: %s", g.Weight, strings.Join(tiers, " > ")))
	}

	text := strings.Join(groups, " | ")
	if l != p.Base && !l.Strict {
		text += ", else the base"
	}

	return text
}

func TestPlan(t *testing.T) {
	const (
		split = `"split":[{"match":{"version":"v2"},"weight":5},{"match":{"version":"v1"},"weight":95}]`
		loose = `"route":[{"lane":"red","match":{"version":"v2"}}]`
	)

	for _, tt := range []struct {
		name, config, zone, want string
		reports                  string // Plan.Reports, joined
	}{
		{"an empty config", `{}`, "x", "1: abcde", ""},
		{"zone", `{"preferZone":true}`, "x", "1: ace > bd", ""},
		{"zone, with no endpoint in it", `{"preferZone":true}`, "z", "1: abcde", ""},
		{"drain", `{"drain":["a","c:1"]}`, "", "1: bde > ac", ""},
		// P12
		{"drain names an unknown endpoint", `{"drain":["x"]}`, "", "1: abcde",
			`drain names "x": no endpoint of "acme/user" has that name`},
		{"drain names many unknown endpoints", `{"drain":["q","r","s","t","u","v","w"]}`, "", "1: abcde",
			`drain names "q", "r", "s", "t", "u", "v", "w": no endpoint of "acme/user" has that name`},
		{"split", `{` + split + `}`, "", "5: cd | 95: ab | 0: e", ""},
		{"split by instance, address and nothing", `{"split":[{"match":{"instance":"b"},"weight":1},{"match":{"addr":"d:1"},"weight":2},{"match":{"build":""},"weight":3}]}`, "",
			"1: b | 2: d | 3: ace", ""},
		{"split that matches nothing", `{"split":[{"match":{"version":"v3"},"weight":5},{"match":{"version":"v1"},"weight":95}]}`, "", "95: ab | 0: cde",
			`the group version="v3" of the split matches no endpoint: the other groups have its share`},
		{"split without a share that matches nothing",
			`{"split":[{"match":{"version":"v3"},"weight":0},{"match":{"version":"v1"},"weight":95}]}`,
			"", "95: ab | 0: cde", ""},
		{"split whose endpoints are drained", `{"drain":["c","d"],` +
			split + `}`, "", "95: ab | 0: e > cd",
			`the group version="v2" of the split matches only endpoints that are drained: the other groups have its share`},
	} {
		in := input(t, tt.config)
		in.Client.Zone = tt.zone
		p := Make(in)

		got := targets(p, "")
		if got != tt.want || strings.Join(p.Reports, "; ") != tt.reports {
			t.Errorf("%s: targets %s, reports %q, want %s and %q", tt.name, got, p.Reports,
				tt.want, tt.reports)
		}
	}

	in := input(t, `{}`)
	if p := Make(in); &p.All[0] != &in.Endpoints[0] {
		t.Error("the plan copies the endpoints although the config is empty")
	}
}

// noneUndrained is the report of a drain that leaves calls without a lane no
// endpoint.
const noneUndrained = "drain leaves no endpoint for calls without a lane, which go to drained ones"

func TestLanes(t *testing.T) {
	const (
		loose, strict  = `"route":[{"lane":"red","match":{"version":"v2"}}]`, `"route":[{"lane":"red","match":{"version":"v2"},"strict":true}]`
		matchesNothing = `route[0] matches no endpoint: the lane "red" is empty`
	)

	for _, tt := range []struct {
		name, config, base, red, other string // the targets of calls
		reports                        string
	}{
		{"a lane", `{` + loose + `}`, "1: abe", "1: cd, else the base", "1: abe", ""},
		{"a strict lane", `{` + strict + `}`, "1: abe", "1: cd", "1: abe", ""},
		{"a label", `{"route":[{"label":"build"}]}`, "1: abcde", "1: abcde", "1: abcde", ""},
		{"a strict label", `{"route":[{"label":"build","strict":true}]}`, "1: abcde", "fails",
			"fails", ""},
		{"the first route of a lane counts",
			`{"route":[{"label":"build"},{"lane":"red","match":{"version":"v2"},"strict":true}]}`,
			"1: abe", "1: cd, else the base", "1: abe", ""},
		{"nothing matches", `{"route":[{"lane":"red","match":{"version":"v3"}}]}`, "1: abcde",
			"1: abcde", "1: abcde", matchesNothing},
		{"nothing matches, strictly",
			`{"route":[{"lane":"red","match":{"version":"v3"},"strict":true}]}`, "1: abcde",
			"fails", "1: abcde", matchesNothing},
		{"no base", `{"route":[{"lane":"red","match":{"build":""}}]}`, "1: abcde", "1: abcde, else the base", "1: abcde",
			"every endpoint that may be called is in a lane: calls without a lane go to all of them"},
		{"the strict lane is drained", `{"drain":["c","d"],` + strict + `}`, "1: abe", "fails",
			"1: abe", ""},
		{"one of each is drained", `{"drain":["a","d"],` + loose + `}`, "1: be > a",
			"1: c, else the base", "1: be > a", ""},
		{"all are drained", `{"drain":["a","b","c","d","e"],` + loose + `}`, "1: abe", "1: abe",
			"1: abe", noneUndrained},
		{"the base is drained", `{"drain":["a","b","e"],` + loose + `}`, "1: abe",
			"1: cd, else the base", "1: abe", noneUndrained},
		{"zones", `{"preferZone":true,` + loose + `}`, "1: ae > b", "1: c > d, else the base",
			"1: ae > b", ""},
		{"a split", `{"split":[{"match":{"instance":"a"},"weight":1},{"match":{"instance":"c"},"weight":2}],` +
			loose + `}`,
			"1: a | 0: be", "2: c | 0: d, else the base", "1: a | 0: be", `the group instance="c" of the split matches only endpoints that are in a lane: the other groups have its share`},
	} {
		p := Make(input(t, tt.config))
		got := fmt.Sprintf("%s; %s; %s", targets(p, ""), targets(p, "red"), targets(p, "green"))
		want := fmt.Sprintf("%s; %s; %s", tt.base, tt.red, tt.other)
		if got != want || strings.Join(p.Reports, "; ") != tt.reports {
			t.Errorf("%s: targets %s, reports %q, want %s and %q", tt.name, got, p.Reports, want,
				tt.reports)
		}
	}
}

// TestAwayAndDeparted plans with endpoints in the fallback cluster, and
// departed endpoints.
func TestAwayAndDeparted(t *testing.T) {
	for _, tt := range []struct{ name, config, home, away, left, base, red string }{
		{"the classes in order", `{}`, "a", "b", "c", "1: a > b > c", "1: a > b > c"},
		{"drained endpoints of both clusters are the last resort", `{"drain":["a","b"]}`, "a",
			"b,d", "", "1: d > ab", "1: d > ab"},
		{"the fallback cluster stands in for lanes although the base has a drained endpoint", `{"drain":["c"],"route":[{"lane":"red","match":{"version":"v2"}}]}`,
			"a,c", "b v2", "", "1: a > b > c", "1: a > b > c"},
		{"a strict lane may have only endpoints of the fallback cluster",
			`{"route":[{"lane":"red","match":{"version":"v2"},"strict":true}]}`, "a", "b v2,d", "",
			"1: a > d", "1: b"},
		{"a loose lane reaches the fallback cluster by the base",
			`{"route":[{"lane":"red","match":{"version":"v2"}}]}`, "a,c v2", "b v2", "", "1: a > b",
			"1: c, else the base"},
		{"an endpoint that left stays in a lane with live endpoints",
			`{"route":[{"lane":"red","match":{"version":"v2"}}]}`, "a,c v2", "", "d v2", "1: a > d",
			"1: c > d, else the base"},
		{"an endpoint that left stays in its strict lane",
			`{"route":[{"lane":"red","match":{"version":"v2"},"strict":true}]}`, "a", "", "d v2",
			"1: a", "1: d"},
		{"an endpoint that left goes to the base if its lane has no live one",
			`{"route":[{"lane":"red","match":{"version":"v2"}}]}`, "a", "", "d v2", "1: a > d",
			"1: a > d"},
	} {
		in := input(t, tt.config)
		list := func(text string) endpoints {
			return ends(slices.DeleteFunc(strings.Split(text, ","), func(s string) bool {
				return s == ""
			})...)
		}

		in.Endpoints = list(tt.home)
		in.Away = list(tt.away)
		in.Departed = list(tt.left)

		if p := Make(in); targets(p, "") != tt.base || targets(p, "red") != tt.red {
			t.Errorf("%s: %s, and %s in the lane; want %s and %s", tt.name, targets(p, ""),
				targets(p, "red"), tt.base, tt.red)
		}
	}
}

func TestSelector(t *testing.T) {
	const loose = `"route":[{"lane":"red","match":{"version":"v2"}}]`
	for _, tt := range []struct{ config, selects, want, reports string }{
		{`{}`, "ad", "1: ad", ""},
		{`{"split":[{"match":{"version":"v2"},"weight":1},{"match":{"version":"v1"},"weight":1}]}`, "ab", "1: ab",
			`the group version="v2" of the split matches no endpoint that is selected for this connection: the other groups have its share`},
		{`{}`, "", `etcd: none of the 5 endpoints of "acme/user" is selected for this connection`,
			""},
		{`{"drain":["a"]}`, "a",
			`etcd: none of the 4 endpoints of "acme/user" is selected for this connection (1 more are drained)`,
			"drain leaves no endpoint, so calls go to drained ones"},
		{`{` + loose + `}`, "cd", "1: cd",
			"every endpoint that may be called is in a lane: calls without a lane go to all of them"},
		// the drained endpoint is the only selected one in the base
		{`{"drain":["b"],` + loose + `}`, "bd", "1: b", noneUndrained},
		// the percentage counts all endpoints without a lane, selected or not
		{`{"drain":["b"],"minHealthyPercent":60,` + loose + `}`, "be", "1: e > b", ""},
		{`{"drain":["c"],"minHealthyPercent":81,` + loose + `}`, "cd", "1: d",
			"every endpoint that may be called is in a lane: calls without a lane go to all of them"},
	} {
		in := input(t, tt.config)
		in.Client.Selector = func(e *endpoint.Endpoint) bool {
			return strings.Contains(tt.selects, e.Instance)
		}
		p := Make(in)

		got := targets(p, "")
		if p.Live == 0 {
			got = p.Empty.Error()
		}

		if got != tt.want || strings.Join(p.Reports, "; ") != tt.reports {
			t.Errorf("%s with %q selected: %s, reports %q, want %s and %q", tt.config, tt.selects,
				got, p.Reports, tt.want, tt.reports)
		}
	}

	in := input(t, `{}`)
	in.Endpoints = nil

	in.Err = errors.New("why")
	if p := Make(in); !errors.Is(p.Empty, in.Err) {
		t.Errorf("without endpoints, Empty is %v, want %v", p.Empty, in.Err)
	}
}

// TestSubset_SmallerSizeWins sets subsets in both the client and the config. A
// subset is part of every larger one, so that a change of size moves few
// connections.
func TestSubset_SmallerSizeWins(t *testing.T) {
	for _, tt := range []struct{ client, most, config, want int }{
		{0, 0, 0, 5}, {-1, 0, 0, 5}, {2, 0, 0, 2}, {0, 0, 2, 2}, {-1, 0, 2, 2}, {3, 0, 2, 2}, {2,
			0, 3, 2}, {9, 0, 2, 2}, {2, 0, 9, 2}, {9, 0, 9, 5},
		{0, 5, 0, 5}, {0, 3, 0, 3}, {4, 3, 0, 3}, {2, 3, 0, 2},
	} {
		text := `{"drain":[]}`
		if tt.config > 0 {
			text = fmt.Sprintf(`{"drain":[],"subset":%d}`, tt.config)
		}

		// drained endpoints have the same limits
		all := strings.Replace(text, "[]", `["a","b","c","d","e"]`, 1)
		choose := func(text string, subset, limit int) string {
			in := input(t, text)
			in.Client.Subset = subset
			in.Client.Most = limit

			return strings.TrimPrefix(targets(Make(in), ""), "1: ")
		}

		got := choose(text, tt.client, tt.most)
		drained := choose(all, tt.client, tt.most)

		larger := choose(text, 0, 0)
		if len(got) != tt.want || len(drained) != tt.want || strings.Trim(got, larger) != "" {
			t.Errorf("%+v: the client uses %s, or %s if all are drained, want %d of %s", tt, got,
				drained, tt.want, larger)
		}
	}
}

// TestSubset_FollowsAllSteps applies subsets after all other steps.
func TestSubset_FollowsAllSteps(t *testing.T) {
	for range 50 {
		client := &Client{Zone: "x", Subset: 1, Seed: maphash.MakeSeed()}
		best := func(names string) string { // the highest-ranked of these endpoints
			in := input(t, `{}`)
			in.Client = client

			p := Make(in)
			for _, m := range p.Rank([]int32{0, 1, 2, 3, 4}) {
				if name := p.All[m].Instance; strings.Contains(names, name) {
					return name
				}
			}

			return ""
		}

		first := best("abcde")
		others := strings.ReplaceAll("abcde", first, "")
		for config, want := range map[string]string{
			`{}`:                          "1: " + first,
			`{"drain":["` + first + `"]}`: "1: " + best(others) + " > " + first,
			`{"preferZone":true}`:         "1: " + best("ace") + " > " + best("bd"),
			`{"split":[{"match":{"version":"v2"},"weight":2},{"match":{"version":"v1"},"weight":8}]}`: "2: " +
				best("cd") + " | 8: " + best("ab") + " | 0: e",
		} {
			in := input(t, config)
			in.Client = client

			if got := targets(Make(in), ""); got != want {
				t.Errorf("%s: %s, want %s", config, got, want)
			}
		}

		in := input(t, `{}`)
		in.Client = client

		if got := instances(Make(in).Choose()); got != first {
			t.Errorf("Choose = %s, want %s", got, first)
		}
	}
}

// TestMake_BoundsAllocations bounds the cost of a plan for the largest live
// config (S7).
func TestMake_BoundsAllocations(t *testing.T) {
	var split, drain, specs []string
	for i := range 256 {
		split = append(split, fmt.Sprintf(`{"match":{"build":"b%d","version":"v9"},"weight":1}`, i))
	}

	for i := range 20_000 {
		drain = append(drain, fmt.Sprintf(`"nobody%d"`, i))
		specs = append(specs, fmt.Sprintf("i%d v%d", i, i%3))
	}

	in := input(t,
		`{"split":[`+strings.Join(split, ",")+`],"drain":[`+strings.Join(drain, ",")+`]}`)
	in.Endpoints = ends(specs...)

	n := testing.AllocsPerRun(1, func() {
		p := Make(in)
		p.Groups(p.Base)
	})
	if n > 2500 {
		t.Errorf("%v allocations, want at most 2500", n)
	}
}

// TestLanes_UseFewEndpoints plans for a client that may use a part of the base.
func TestLanes_UseFewEndpoints(t *testing.T) {
	var specs []string
	for i := range 400 {
		specs = append(specs, fmt.Sprintf("i%03d v%d", i, max(0, i-299)))
	}

	for _, config := range []string{
		`{"route":[{"label":"build"},{"lane":"red","match":{"version":"v1"}}]}`,
		`{"route":[{"label":"version"}]}`} {
		in := input(t, config)
		in.Client.Most = 100
		in.Endpoints = ends(specs...)

		p := Make(in)
		if n := p.Groups(p.Base)[0].Tiers[0].Most; n != 100 {
			t.Errorf("%s: the base uses %d endpoints, want 100", config, n)
		}

		for _, l := range slices.Collect(p.Lanes()) {
			tier := p.Groups(l)[0].Tiers[0]
			if tier.Most > minLimit || tier.Most == 0 && len(tier.Members) > minLimit {
				t.Errorf("%s: the lane %s uses %d of %d endpoints, want at most %d", config,
					l.Name, tier.Most, len(tier.Members), minLimit)
			}
		}
	}
}

// TestSubset_CoversLargeFleet checks that callers which may each use a part of
// many endpoints together use nearly all of them.
func TestSubset_CoversLargeFleet(t *testing.T) {
	specs := make([]string, 1000)
	for i := range specs {
		specs[i] = fmt.Sprintf("i%03d", i)
	}

	called := make(map[string]bool)
	for range 200 {
		in := input(t, `{}`)
		in.Endpoints = ends(specs...)
		in.Client = &Client{Most: 50, Seed: maphash.MakeSeed()}

		for _, e := range Make(in).Choose() {
			called[e.Instance] = true
		}
	}

	if n := len(slices.Collect(maps.Keys(called))); n < 950 {
		t.Errorf("%d of 1,000 endpoints are used by 200 callers together, want at least 950", n)
	}
}
