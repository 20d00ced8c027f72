package balancer

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
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

func mustConfig(t testing.TB, text string) *config {
	t.Helper()
	c, err := parseConfig(json.RawMessage(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var seedOfTests = maphash.MakeSeed()

// liveOf returns the endpoints that a plan calls, the last resort aside.
func liveOf(p *plan) []resolver.Endpoint { return p.All[:p.Live] }

func instances(endpoints []resolver.Endpoint) string {
	var all []string
	for i := range endpoints {
		all = append(all, instance(&endpoints[i]))
	}
	return strings.Join(all, "")
}

func planOf(t *testing.T, config string, fleet []resolver.Endpoint) *plan {
	t.Helper()
	return makePlan(&input{service: "acme/user", config: mustConfig(t, config), client: &attr.Client{}, endpoints: fleet})
}

// fleet is five endpoints in two zones.
func fleet() []resolver.Endpoint { return ends("a v1 x", "b v1 y", "c v2 x", "d v2 y", "e - x") }

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
