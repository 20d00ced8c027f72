package planner

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// placeOf places endpoints written as "name=value name=value", and returns
// their lanes by index.
func placeOf(routes []serviceconfig.Route, texts ...string) (*Placement, map[int][]string) {
	var all endpoints
	for _, text := range texts {
		e := &endpoint.Endpoint{Metadata: make(map[string]string)}
		for part := range strings.FieldsSeq(text) {
			name, value, _ := strings.Cut(part, "=")
			e.Metadata[name] = value
		}

		e.Version = e.Metadata["version"]
		e.Zone = e.Metadata["zone"]
		all = append(all, e)
	}

	p := NewConfig(&serviceconfig.Etcd{Route: routes}).Place(all)

	of := make(map[int][]string)
	for i, e := range all {
		if !p.IsBase(e) {
			of[i] = p.Of[e]
		}
	}

	return p, of
}

func TestPlace(t *testing.T) {
	red := serviceconfig.Route{Lane: "red", Match: map[string]string{"version": "v2"}}
	blue := serviceconfig.Route{
		Lane:  "blue",
		Match: map[string]string{"version": "v2", "zone": "x"},
	}

	label := serviceconfig.Route{Label: "lane"}

	specs := []string{"version=v1 zone=x", "version=v2 zone=y", "version=v2 zone=x lane=pr-7",
		"lane=red", "lane=a\x1b[2J"}
	for _, tt := range []struct {
		name     string
		routes   []serviceconfig.Route
		want     string
		problems string
	}{
		{"two named", []serviceconfig.Route{red, blue}, "map[1:[red] 2:[red blue]]", ""},
		{"lanes in the order of the routes", []serviceconfig.Route{blue, red},
			"map[1:[red] 2:[blue red]]", ""},
		{"a label and a name for one lane", []serviceconfig.Route{label, red}, "map[1:[red] 2:[pr-7 red] 3:[red] 4:[]]",
			`1 labels of endpoints are not valid lanes, such as "a\x1b[2J" in "lane", so these endpoints are neither in a lane nor in the base: want at most 128 letters, digits and "-_.:/"`},
		{"nothing matches", []serviceconfig.Route{
			{Lane: "green", Match: map[string]string{"version": "v9"}}}, "map[]",
			`route[0] matches no endpoint: the lane "green" is empty`},
	} {
		p, of := placeOf(tt.routes, specs...)
		got := fmt.Sprint(of)
		if got != tt.want || strings.Join(p.Problems, "; ") != tt.problems {
			t.Errorf("%s: lanes %s, problems %q, want %s and %q", tt.name, got, p.Problems,
				tt.want, tt.problems)
		}
	}
}

func TestLanesAreBounded(t *testing.T) {
	var specs []string
	for i := range maxLabelLanes + 3 {
		specs = append(specs, fmt.Sprintf("lane=l%04d", i))
	}

	p, of := placeOf([]serviceconfig.Route{{Label: "lane"},
		{Lane: "l9", Match: map[string]string{"lane": "l0258"}}}, specs...)
	switch last := of[len(specs)-1]; {
	case len(p.Made) != maxLabelLanes+1, len(of) != len(specs):
		t.Errorf("%d lanes with %d endpoints, want %d and %d", len(p.Made), len(of),
			maxLabelLanes+1, len(specs))
	case !slices.Equal(last, []string{"l9"}):
		t.Errorf("the last endpoint is in %q, want l9", last)
	case of[len(specs)-2] == nil:
		t.Error("an endpoint of a lane beyond the bound is in the base")
	case len(p.Problems) != 1 ||
		p.Problems[0] != "labels make more than 256 lanes: the last 3 by name have no endpoint":
		t.Errorf("the problems are %q, want one about the last 3 lanes", p.Problems)
	}

	var routes []serviceconfig.Route
	for i := range maxLanesOf + 2 {
		routes = append(routes, serviceconfig.Route{
			Lane:  fmt.Sprintf("l%d", i),
			Match: map[string]string{"version": ""},
		})
	}

	p, of = placeOf(routes, "zone=x")
	got := fmt.Sprint(of, p.Made, p.Problems)
	if got != "map[0:[l0 l1 l2 l3]] [l0 l1 l2 l3] [1 endpoints are in more than 4 lanes: those of the first routes count]" {
		t.Errorf("the lanes are %s, want 4 of 6 and a problem", got)
	}
}
