package serviceconfig

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// placeOf places endpoints that are written as "name=value name=value".
func placeOf(routes []Route, endpoints ...string) *Placement {
	return NewLanes(routes).Place(len(endpoints), func(i int, name string) string {
		for part := range strings.FieldsSeq(endpoints[i]) {
			if key, value, _ := strings.Cut(part, "="); key == name {
				return value
			}
		}
		return ""
	})
}

func TestPlace(t *testing.T) {
	red := Route{Lane: "red", Match: map[string]string{"version": "v2"}}
	blue := Route{Lane: "blue", Match: map[string]string{"version": "v2", "zone": "x"}}
	plain := Route{Lane: "plain", Match: map[string]string{"lane": ""}}
	label := Route{Label: "lane"}
	fleet := []string{"version=v1 zone=x", "version=v2 zone=y", "version=v2 zone=x lane=pr-7", "lane=red", "lane=a,b"}
	for _, tt := range []struct {
		name     string
		routes   []Route
		want     string
		problems string
	}{
		{"one named", []Route{red}, "map[1:[red] 2:[red]]", ""},
		{"two named", []Route{red, blue}, "map[1:[red] 2:[red blue]]", ""},
		{"the order is the routes'", []Route{blue, red}, "map[1:[red] 2:[blue red]]", ""},
		{"what has no label", []Route{plain}, "map[0:[plain] 1:[plain]]", ""},
		{"a label", []Route{label}, "map[2:[pr-7] 3:[red] 4:[]]",
			`1 labels of endpoints are no lanes, such as "a,b" in "lane", and put these neither in a lane nor in the base: want at most 128 letters, digits and "-_.:/"`},
		{"a label and a name for one lane", []Route{label, red}, "map[1:[red] 2:[pr-7 red] 3:[red] 4:[]]",
			`1 labels of endpoints are no lanes, such as "a,b" in "lane", and put these neither in a lane nor in the base: want at most 128 letters, digits and "-_.:/"`},
		{"a version each", []Route{{Label: "version"}}, "map[0:[v1] 1:[v2] 2:[v2]]", ""},
		{"nothing matches", []Route{{Lane: "green", Match: map[string]string{"version": "v9"}}}, "map[]",
			`route[0] matches no endpoint: the lane "green" is empty`},
	} {
		p := placeOf(tt.routes, fleet...)
		if got := fmt.Sprint(p.Of); got != tt.want || strings.Join(p.Problems, "; ") != tt.problems {
			t.Errorf("%s: %s, %q, want %s, %q", tt.name, got, p.Problems, tt.want, tt.problems)
		}
	}
}

func TestLanesAreBounded(t *testing.T) {
	var fleet []string
	for i := range MaxLabelLanes + 3 {
		fleet = append(fleet, fmt.Sprintf("lane=l%04d", i))
	}
	p := placeOf([]Route{{Label: "lane"}, {Lane: "l9", Match: map[string]string{"lane": "l0258"}}}, fleet...)
	switch last := p.Of[len(fleet)-1]; {
	case len(p.Made) != MaxLabelLanes+1, len(p.Of) != len(fleet):
		t.Errorf("%d lanes of %d endpoints", len(p.Made), len(p.Of))
	case !slices.Equal(last, []string{"l9"}):
		t.Errorf("the last one is in %q", last)
	case p.Of[len(fleet)-2] == nil:
		t.Error("an endpoint of a lane that is not made is one of the base")
	case len(p.Problems) != 1 || p.Problems[0] != "labels make more than 256 lanes: the last 3 by name have no endpoint":
		t.Errorf("%q", p.Problems)
	}
	var routes []Route
	for i := range MaxLanesOf + 2 {
		routes = append(routes, Route{Lane: fmt.Sprintf("l%d", i), Match: map[string]string{"version": ""}})
	}
	p = placeOf(routes, "zone=x")
	if got := fmt.Sprint(p.Of, p.Made, p.Problems); got != "map[0:[l0 l1 l2 l3]] [l0 l1 l2 l3] [1 endpoints are in more than 4 lanes: those of the first routes count]" {
		t.Error(got)
	}
}

func TestStrict(t *testing.T) {
	lax, strict := Route{Lane: "lax", Match: map[string]string{"a": "b"}}, Route{Lane: "strict", Match: map[string]string{"a": "b"}, Strict: true}
	for _, tt := range []struct {
		routes []Route
		want   string // of the lanes "lax", "strict" and "other"
	}{
		{[]Route{lax, strict}, "false true false"},
		{[]Route{lax, {Label: "a", Strict: true}, strict}, "false true true"},
		{[]Route{{Label: "a"}, strict, lax}, "false false false"},
		{[]Route{{Label: "a", Strict: true}, strict, lax}, "true true true"},
	} {
		l := NewLanes(tt.routes)
		if got := fmt.Sprint(l.Strict("lax"), l.Strict("strict"), l.Strict("other")); got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.routes, got, tt.want)
		}
	}
	if NewLanes(nil) != nil {
		t.Error("there are lanes without routes")
	}
}
