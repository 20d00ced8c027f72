package serviceconfig

import (
	"strings"
	"testing"
)

// TestFollowDrain follows lists of the instances a, b, c and d. If there are lanes, c and d are in one.
func TestFollowDrain(t *testing.T) {
	const instances = "abcd"
	lanes := []Route{{Label: "lane"}}
	for _, tt := range []struct {
		name, list string
		routes     []Route
		held       string
		least      uint32
		want       string
		ignored    DrainFault
		kept       int
	}{
		{"some", "ac", nil, "", 0, "ac", 0, 0},
		{"none", "", nil, "", 0, "", 0, 0},
		{"by the address", "A", nil, "", 0, "a", 0, 0},
		{"who is not there", "x", nil, "", 0, "", 0, 0},
		{"all", "abcd", nil, "", 0, "", DrainNamesAll, 4},
		{"all that etcd has", "ab", nil, "cd", 0, "", DrainLeavesHeld, 4},
		{"some that etcd has not", "ac", nil, "cd", 0, "ac", 0, 0},
		{"some, where etcd has none", "ab", nil, "abcd", 0, "ab", 0, 0},
		{"one of the base", "a", lanes, "", 0, "a", 0, 0},
		{"the base", "ab", lanes, "", 0, "", DrainNamesBase, 2},
		{"the base and one beside it", "abc", lanes, "", 0, "c", DrainNamesBase, 2},
		{"what etcd has of the base", "ac", lanes, "b", 0, "c", DrainNamesBase, 2},
		{"lanes", "cd", lanes, "", 0, "cd", 0, 0},
		{"all, with lanes", "abcd", lanes, "", 0, "", DrainNamesAll, 4},
		{"as many as may be", "ab", nil, "", 50, "ab", 0, 0},
		{"one too many", "abc", nil, "", 50, "", DrainLeavesFew, 4},
		{"one, and all are wanted", "a", nil, "", 100, "", DrainLeavesFew, 4},
		{"who is not there, and all are wanted", "x", nil, "", 100, "", 0, 0},
		{"what etcd has not does not count as left", "a", nil, "cd", 60, "", DrainLeavesFew, 4},
		{"what etcd has not does not count as drained", "cd", nil, "cd", 100, "cd", 0, 0},
		{"some, where etcd has none and all are wanted", "ab", nil, "abcd", 100, "ab", 0, 0},
		{"all, and few are wanted", "abcd", nil, "", 1, "", DrainNamesAll, 4},
		{"lanes, and all are wanted", "cd", lanes, "", 100, "cd", 0, 0},
		{"half of the base and a lane, and half are wanted", "acd", lanes, "", 50, "acd", 0, 0},
		{"half of the base and a lane, and more are wanted", "acd", lanes, "", 51, "cd", DrainLeavesFewBase, 2},
		{"where all are in lanes, and more are wanted", "a", []Route{{Label: "everyone"}}, "", 80, "", DrainLeavesFew, 4},
		{"the base, and few are wanted", "ab", lanes, "", 1, "", DrainNamesBase, 2},
	} {
		e := &Etcd{Route: tt.routes, Drain: strings.Split(tt.list, ""), MinHealthyPercent: tt.least}
		value := func(i int, name string) string {
			switch {
			case name == "instance":
				return instances[i : i+1]
			case name == "addr":
				return strings.ToUpper(instances[i : i+1])
			case name == "lane" && i > 1, name == "everyone":
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
