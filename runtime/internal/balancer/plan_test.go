package balancer

import (
	"encoding/json"
	"fmt"
	"math"
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
		}, new(attr.Room)))
	}
	return all
}

func names(endpoints []resolver.Endpoint) string {
	var all []string
	for _, ep := range endpoints {
		all = append(all, attr.Endpoint(ep).Instance)
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

func TestPlan(t *testing.T) {
	fleet := ends("a v1 x", "b v1 y", "c v2 x", "d v2 y", "e - x")
	for _, tt := range []struct {
		name, config, zone, want string
		reports                  int
	}{
		{"nothing asked for", `{}`, "x", "1: abcde", 0},
		{"zone", `{"preferZone":true}`, "x", "1: ace > bd", 0},
		{"zone, of an unknown client", `{"preferZone":true}`, "", "1: abcde", 0},
		{"zone, with no endpoint in it", `{"preferZone":true}`, "z", "1: abcde", 0},
		{"drain", `{"drain":["a","c:1","nobody"]}`, "", "1: bde", 0},
		{"drain everything", `{"drain":["a","b","c","d","e"]}`, "", "1: abcde", 1},
		{"split", `{"split":[{"match":{"version":"v2"},"weight":5},{"match":{"version":"v1"},"weight":95}]}`, "", "5: cd | 95: ab | 0: e", 0},
		{"split, the first match counts", `{"split":[{"match":{"zone":"x"},"weight":1},{"match":{"version":"v2"},"weight":1}]}`, "", "1: ace | 1: d | 0: b", 0},
		{"split by two", `{"split":[{"match":{"zone":"x","version":"v2"},"weight":1}]}`, "", "1: c | 0: abde", 0},
		{"split that matches nothing", `{"split":[{"match":{"version":"v3"},"weight":5},{"match":{"version":"v1"},"weight":95}]}`, "", "95: ab | 0: cde", 1},
		{"everything", `{"split":[{"match":{"version":"v2"},"weight":5},{"match":{"version":"v1"},"weight":95}],"preferZone":true,"drain":["e","d"]}`, "y", "5: c | 95: b > a", 0},
	} {
		p := makePlan(mustConfig(t, tt.config), tt.zone, fleet)
		if got := p.views[0].describe(); got != tt.want || len(p.reports) != tt.reports {
			t.Errorf("%s: %s, reports %q, want %s and %d reports", tt.name, got, p.reports, tt.want, tt.reports)
		}
		keys := map[string]bool{}
		for _, g := range p.views[0].groups {
			for _, tier := range g.tiers {
				if keys[tier.key] {
					t.Errorf("%s: two leaves have the key %q", tt.name, tier.key)
				}
				keys[tier.key] = true
			}
		}
	}
}

func TestPlanWithoutOptionsCopiesNothing(t *testing.T) {
	fleet := ends("a", "b")
	p := makePlan(mustConfig(t, `{}`), "x", fleet)
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
		p := makePlan(mustConfig(t, `{}`), "", tt.fleet)
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
	if p := makePlan(mustConfig(t, `{}`), "", ends(specs...)); len(p.views) > maxViews+1 {
		t.Errorf("%d views", len(p.views))
	}
}

func TestParseConfig(t *testing.T) {
	for _, tt := range []struct{ config, want string }{
		{`{"splits":[]}`, "unknown field"},
		{`{"split":[{"match":{"version":"v1"},"weight":0},{"match":{"version":"v2"}}]}`, "all weights are zero"},
		{`{"split":[{"weight":1}]}`, "split[0] has no match"},
		{`{"split":[{"match":{"version":"v1"},"weight":-1}]}`, "weight"},
		{`{"split":[{"match":{"version":1},"weight":1}]}`, "match"},
		{`{"childPolicy":[{"nope":{}}]}`, `"nope"`},
		{`{"childPolicy":[{"etcd":{}}]}`, "below itself"},
		{`{"childPolicy":[{"etcd_weighted":{"x":1}}]}`, "no fields"},
		{`{"childPolicy":[{"a":{},"b":{}}]}`, "exactly one field"},
		{`[]`, "cannot unmarshal"},
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
	first := makePlan(mustConfig(t, `{}`), "", fleet)
	for range 100 {
		again := makePlan(mustConfig(t, `{}`), "", fleet)
		for i, v := range again.views {
			if v.describe() != first.views[i].describe() {
				t.Fatalf("view %d is %s, was %s", i, v.describe(), first.views[i].describe())
			}
		}
	}
}

func TestWeightsOfARingAreBounded(t *testing.T) {
	heavy := attr.New(&endpoint.Endpoint{Addr: "h:1", Weight: math.MaxUint32}, new(attr.Room))
	if w := weight.FromEndpoint(heavy).Weight; w > 1<<16 {
		t.Errorf("ring-hash is given the weight %d, of which it can add few", w)
	}
	if w := weightOf(heavy); w != math.MaxUint32 {
		t.Errorf("the static weight is %d", w)
	}
}
