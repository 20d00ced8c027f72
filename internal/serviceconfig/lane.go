package serviceconfig

import (
	"fmt"
	"maps"
	"slices"
)

// Bounds of lanes, which endpoints can make as they like.
const (
	// MaxLabelLanes bounds the lanes that labels make. Of more, those whose names sort first are made.
	MaxLabelLanes = 256
	// MaxLanesOf bounds the lanes that one endpoint is in. Of more, those of the first routes count.
	MaxLanesOf = 4
)

// LaneHeader is the request metadata in which the lane of a call travels to the server.
const LaneHeader = "etcd-lane"

// Lanes assigns endpoints to lanes by the routes of a config. An endpoint is in each lane that a route puts it in. Endpoints
// without a lane are the base. Lanes is immutable.
type Lanes struct {
	routes []Route
	names  []string  // that matches and labels look up
	rules  [][]field // by route: the names that it looks up, for a label with any value
}

// field is a name, by its index, and its value in a match.
type field struct {
	name int
	want string
}

// NewLanes returns the lanes of routes, nil without routes.
func NewLanes(routes []Route) *Lanes {
	if len(routes) == 0 {
		return nil
	}
	l := &Lanes{routes: routes, rules: make([][]field, len(routes))}
	at := make(map[string]int)
	index := func(name string) int {
		if _, ok := at[name]; !ok {
			at[name] = len(l.names)
			l.names = append(l.names, name)
		}
		return at[name]
	}
	for i, r := range routes {
		if r.Label != "" {
			l.rules[i] = []field{{name: index(r.Label)}}
		}
		for _, name := range slices.Sorted(maps.Keys(r.Match)) {
			l.rules[i] = append(l.rules[i], field{index(name), r.Match[name]})
		}
	}
	return l
}

// Strict reports whether the calls of a lane fail while none of its endpoints is ready. The first route
// that names the lane, or has a label, decides. A lane without such a route is not strict.
func (l *Lanes) Strict(lane string) bool {
	for _, r := range l.routes {
		if r.Label != "" || r.Lane == lane {
			return r.Strict
		}
	}
	return false
}

// Named returns the lanes that routes name, in their order.
func (l *Lanes) Named() []string {
	var names []string
	for _, r := range l.routes {
		if r.Lane != "" {
			names = append(names, r.Lane)
		}
	}
	return names
}

// Placement is the assignment of some endpoints to lanes.
type Placement struct {
	// Of holds the lanes of each endpoint outside the base. The list is empty if the endpoint's labels are invalid, or above
	// the bound of lanes. Such an endpoint gets no calls.
	Of map[int][]string
	// Made are the lanes that have endpoints, sorted.
	Made []string
	// Problems are warnings for people.
	Problems []string
	// Idle holds the indices of the routes that name a lane and match no endpoint.
	Idle []int
}

// Place returns the lanes of n endpoints. value returns an endpoint's value of a name, "" if it has none.
func (l *Lanes) Place(n int, value func(i int, name string) string) *Placement {
	p := &placing{Placement: &Placement{Of: make(map[int][]string)}, matched: make([]bool, len(l.routes)), values: make([]string, len(l.names)),
		named: make(map[string]bool), labelled: make(map[string]bool)}
	for _, lane := range l.Named() {
		p.named[lane] = true
	}
	for i := range n {
		for at, name := range l.names {
			p.values[at] = value(i, name)
		}
		l.place(p, i)
	}
	p.dropExcess()
	for i, r := range l.routes {
		if r.Lane != "" && !p.matched[i] {
			p.Idle = append(p.Idle, i)
		}
	}
	p.addProblems(l.routes)
	return p.Placement
}

// placing is the state of [Lanes.Place].
type placing struct {
	*Placement
	matched         []bool          // by route
	named, labelled map[string]bool // lanes that routes name, and lanes that only labels make
	bad             string          // the first invalid label
	invalid         int             // the number of invalid labels
	crowded         int             // the number of endpoints in too many lanes
	values          []string        // the values of the current endpoint, by index of the name
	left            int             // the number of lanes above the bound
}

// place assigns one endpoint to its lanes.
func (l *Lanes) place(p *placing, i int) {
	var lanes []string
	crowded, bad := 0, p.invalid
	for r := range l.routes {
		lane := l.routes[r].Lane
		switch label := l.routes[r].Label; {
		case label != "":
			lane = p.label(label, p.values[l.rules[r][0].name])
		case p.matches(l.rules[r]):
			p.matched[r] = true
		default:
			continue
		}
		if lane == "" || slices.Contains(lanes, lane) {
			continue
		}
		if len(lanes) == MaxLanesOf {
			crowded = 1
			continue
		}
		lanes = append(lanes, lane)
		if !p.named[lane] {
			p.labelled[lane] = true
		}
	}
	p.crowded += crowded
	if p.invalid > bad && lanes == nil {
		lanes = []string{}
	}
	if lanes != nil {
		p.Of[i] = lanes
	}
}

// matches reports whether the current endpoint has the values of a match.
func (p *placing) matches(match []field) bool {
	for _, f := range match {
		if p.values[f.name] != f.want {
			return false
		}
	}
	return true
}

// label returns the lane that a label names, "" if the label is empty or invalid.
func (p *placing) label(name, value string) string {
	if value == "" || ValidLane(value) {
		return value
	}
	if p.invalid++; p.invalid == 1 {
		p.bad = fmt.Sprintf("%.40q in %.80q", value, name)
	}
	return ""
}

// dropExcess removes the lanes above the bound.
func (p *placing) dropExcess() {
	labelled := slices.Sorted(maps.Keys(p.labelled))
	if len(labelled) > MaxLabelLanes {
		p.left = len(labelled) - MaxLabelLanes
		for _, lane := range labelled[MaxLabelLanes:] {
			delete(p.labelled, lane)
		}
	}
	made := make(map[string]bool)
	for i, lanes := range p.Of {
		if p.left > 0 {
			lanes = slices.DeleteFunc(lanes, func(lane string) bool { return !p.named[lane] && !p.labelled[lane] })
			p.Of[i] = lanes
		}
		for _, lane := range lanes {
			made[lane] = true
		}
	}
	p.Made = slices.Sorted(maps.Keys(made))
}

// addProblems adds the problems.
func (p *placing) addProblems(routes []Route) {
	report := func(format string, args ...any) { p.Problems = append(p.Problems, fmt.Sprintf(format, args...)) }
	for _, i := range p.Idle {
		report("route[%d] matches no endpoint: the lane %q is empty", i, routes[i].Lane)
	}
	if p.invalid > 0 {
		report("%d labels of endpoints are no lanes, such as %s, and put these neither in a lane nor in the base: want %s", p.invalid, p.bad, WantLane)
	}
	if p.left > 0 {
		report("labels make more than %d lanes: the last %d by name have no endpoint", MaxLabelLanes, p.left)
	}
	if p.crowded > 0 {
		report("%d endpoints are in more than %d lanes: those of the first routes count", p.crowded, MaxLanesOf)
	}
}
