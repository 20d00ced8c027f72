package serviceconfig

import (
	"strings"
	"testing"
)

// TestFollowDrain says of instances a, b, c, d, of which c and d are in a lane where there are lanes, which a list drains.
func TestFollowDrain(t *testing.T) {
	const instances = "abcd"
	lanes := []Route{{Label: "lane"}}
	for _, tt := range []struct {
		name, list string
		routes     []Route
		held       string
		want       string
		ignored    DrainFault
		kept       int
	}{
		{"some", "ac", nil, "", "ac", 0, 0},
		{"none", "", nil, "", "", 0, 0},
		{"by the address", "A", nil, "", "a", 0, 0},
		{"who is not there", "x", nil, "", "", 0, 0},
		{"all", "abcd", nil, "", "", DrainNamesAll, 4},
		{"all that etcd has", "ab", nil, "cd", "", DrainLeavesHeld, 4},
		{"some that etcd has not", "ac", nil, "cd", "ac", 0, 0},
		{"some, where etcd has none", "ab", nil, "abcd", "ab", 0, 0},
		{"one of the base", "a", lanes, "", "a", 0, 0},
		{"the base", "ab", lanes, "", "", DrainNamesBase, 2},
		{"the base and one beside it", "abc", lanes, "", "c", DrainNamesBase, 2},
		{"what etcd has of the base", "ac", lanes, "b", "c", DrainNamesBase, 2},
		{"lanes", "cd", lanes, "", "cd", 0, 0},
		{"all, with lanes", "abcd", lanes, "", "", DrainNamesAll, 4},
	} {
		e := &Etcd{Route: tt.routes, Drain: strings.Split(tt.list, "")}
		value := func(i int, name string) string {
			switch {
			case name == "instance":
				return instances[i : i+1]
			case name == "addr":
				return strings.ToUpper(instances[i : i+1])
			case name == "lane" && i > 1:
				return "pr"
			}
			return ""
		}
		d := e.FollowDrain(len(instances), value, func(i int) bool { return strings.Contains(tt.held, instances[i:i+1]) })
		got := ""
		for i, drained := range d.Drained {
			if drained {
				got += instances[i : i+1]
			}
		}
		if got != tt.want || d.Ignored != tt.ignored || d.Kept != tt.kept {
			t.Errorf("%s: %q, ignored %d for %d, want %q, %d for %d", tt.name, got, d.Ignored, d.Kept, tt.want, tt.ignored, tt.kept)
		}
	}
}
