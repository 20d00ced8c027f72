package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// These bound lanes, which endpoints can create.
const (
	// maxLabelLanes bounds the lanes that labels create. Beyond it, those whose names sort first are created.
	maxLabelLanes = 256
	// maxLanesOf bounds the lanes of one endpoint. Beyond it, those of the first routes count.
	maxLanesOf = 4
)

// Strict reports whether the calls of a lane fail while none of its endpoints is ready. The first
// route that names the lane or has a label decides. A lane without such a route is not strict.
func (c *Config) Strict(lane string) bool {
	for _, r := range c.Route {
		if r.Label != "" || r.Lane == lane {
			return r.Strict
		}
	}
	return false
}

// NamedLanes returns the lanes that routes name, in the order of the routes.
func (c *Config) NamedLanes() (names []string) {
	for _, r := range c.Route {
		if r.Lane != "" {
			names = append(names, r.Lane)
		}
	}
	return names
}

// Placement is the assignment of some endpoints to lanes.
type Placement struct {
	// Of holds the lanes of each endpoint outside the base. The list is empty, and the endpoint gets
	// no calls, if the endpoint's labels are invalid or its lanes above the bound.
	Of map[*endpoint.Endpoint][]string
	// Made has the names of the lanes with endpoints, sorted.
	Made []string
	// Problems are warnings for operators.
	Problems []string
}

// IsBase reports whether an endpoint is in no lane. p is nil without routes.
func (p *Placement) IsBase(e *endpoint.Endpoint) bool {
	if p == nil {
		return true
	}
	_, in := p.Of[e]
	return !in
}

// Place assigns endpoints to the lanes of the routes that match them. It returns nil without routes.
func (c *Config) Place(endpoints []*endpoint.Endpoint) *Placement {
	if len(c.Route) == 0 {
		return nil
	}
	p := &placing{
		Placement: &Placement{Of: make(map[*endpoint.Endpoint][]string)}, config: c,
		fits: make([]bool, len(c.Route)), matched: make([]bool, len(c.Route)), made: make(map[string]bool),
	}
	for _, e := range endpoints {
		p.place(e)
	}
	for i, r := range c.Route {
		if r.Lane != "" && !p.matched[i] {
			p.report("route[%d] matches no endpoint: the lane %q is empty", i, r.Lane)
		}
	}
	if p.invalid > 0 {
		p.report("%d labels of endpoints are no lanes, such as %s, and put these neither in a lane nor in the base: want %s", p.invalid, p.bad, serviceconfig.WantLane)
	}
	p.dropExcess()
	if p.crowded > 0 {
		p.report("%d endpoints are in more than %d lanes: those of the first routes count", p.crowded, maxLanesOf)
	}
	return p.Placement
}

// placing is the state of [Config.Place].
type placing struct {
	*Placement
	config  *Config
	fits    []bool          // by route: the current endpoint satisfies its match
	matched []bool          // by route: some endpoint does
	made    map[string]bool // lanes with an endpoint
	bad     string          // the first invalid label
	invalid int             // the number of invalid labels
	crowded int             // the number of endpoints in too many lanes
}

func (p *placing) report(format string, args ...any) {
	p.Problems = append(p.Problems, fmt.Sprintf(format, args...))
}

// place assigns one endpoint to its lanes.
func (p *placing) place(e *endpoint.Endpoint) {
	clear(p.fits)
	p.config.routes.each(e, func(i int) { p.fits[i], p.matched[i] = true, true })
	var lanes []string
	crowded, bad := 0, p.invalid
	for i, r := range p.config.Route {
		lane := ""
		switch {
		case r.Label != "":
			lane = p.label(r.Label, e.Field(r.Label))
		case p.fits[i]:
			lane = r.Lane
		}
		switch {
		case lane == "" || slices.Contains(lanes, lane):
		case len(lanes) == maxLanesOf:
			crowded = 1
		default:
			lanes, p.made[lane] = append(lanes, lane), true
		}
	}
	p.crowded += crowded
	if lanes != nil || p.invalid > bad {
		p.Of[e] = lanes
	}
}

// label returns the lane that a label names, "" if the label is empty or invalid.
func (p *placing) label(name, value string) string {
	if value == "" || serviceconfig.ValidLane(value) {
		return value
	}
	if p.invalid++; p.invalid == 1 {
		p.bad = fmt.Sprintf("%.40q in %.80q", value, name)
	}
	return ""
}

// dropExcess creates the lanes, except those above the bound.
func (p *placing) dropExcess() {
	p.Made = slices.Sorted(maps.Keys(p.made))
	named := p.config.NamedLanes()
	excess := slices.DeleteFunc(slices.Clone(p.Made), func(lane string) bool { return slices.Contains(named, lane) })
	excess = excess[min(maxLabelLanes, len(excess)):]
	if len(excess) == 0 {
		return
	}
	p.report("labels make more than %d lanes: the last %d by name have no endpoint", maxLabelLanes, len(excess))
	isExcess := func(lane string) bool { _, is := slices.BinarySearch(excess, lane); return is }
	p.Made = slices.DeleteFunc(p.Made, isExcess)
	for e, lanes := range p.Of {
		p.Of[e] = slices.DeleteFunc(lanes, isExcess)
	}
}
