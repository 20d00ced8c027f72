package planner

import (
	"fmt"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// TestFollowDrain applies lists to the instances a, b, c and d. If there are
// lanes, c and d are in one.
func TestFollowDrain(t *testing.T) {
	lanes := []serviceconfig.Route{{Label: "lane"}}
	for _, tt := range []struct {
		name, list string
		routes     []serviceconfig.Route
		held       string
		least      uint32
		want       string
		ignored    int // the number of endpoints that are counted, if the list is ignored
	}{
		{"some", "ac", nil, "", 0, "ac", 0},
		{"by the address", "A", nil, "", 0, "a", 0},
		{"all", "abcd", nil, "", 0, "abcd", 0},
		{"some, while etcd has none", "ab", nil, "abcd", 60, "ab", 0},
		{"as many as allowed", "ab", nil, "", 50, "ab", 0},
		{"one too many", "abc", nil, "", 50, "", 4},
		{"a held endpoint does not count as left", "a", nil, "cd", 60, "", 2},
		{"a held endpoint does not count as drained", "cd", nil, "cd", 100, "cd", 0},
		{"half of the base and a lane, with a minimum of half", "acd", lanes, "", 50, "acd", 0},
		{"half of the base and a lane, with a minimum over half", "acd", lanes, "", 51, "cd", 2},
		{"one too many while all are in lanes", "a", []serviceconfig.Route{{Label: "everyone"}},
			"", 80, "", 4},
	} {
		var list []serviceconfig.Drained
		for _, name := range strings.Split(tt.list, "") {
			list = append(list, serviceconfig.Drained{Instance: name})
		}

		c := NewConfig(&serviceconfig.Etcd{
			Route:             tt.routes,
			Drain:             list,
			MinHealthyPercent: tt.least,
		})

		var all endpoints
		for _, instance := range strings.Split("abcd", "") {
			lane := ""
			if instance > "b" {
				lane = "pr"
			}

			all = append(all, &endpoint.Endpoint{
				Instance: instance,
				Addr:     strings.ToUpper(instance),
				Metadata: map[string]string{"lane": lane, "everyone": "pr"},
			})
		}

		held := make(map[string]struct{})
		for _, addr := range strings.Split(strings.ToUpper(tt.held), "") {
			held[addr] = struct{}{}
		}

		d := c.FollowDrain(all, nil, c.Place(all), held)

		got := ""
		for _, e := range all {
			if d.Drained[e] {
				got += e.Instance
			}
		}

		count := fmt.Sprintf("of %d endpoints", tt.ignored)
		if got != tt.want ||
			(d.Problem != "") != (tt.ignored > 0) ||
			d.Problem != "" && !strings.Contains(d.Problem, count) {
			t.Errorf("%s: drains %q, problem %q, want %q and %q", tt.name, got, d.Problem, tt.want,
				count)
		}
	}
}
