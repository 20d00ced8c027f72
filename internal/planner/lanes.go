package planner

import (
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Lane has the endpoints of a lane, or of the base, which takes the calls
// without a lane.
type Lane struct {
	Name    string  // "" for the base
	Strict  bool    // the calls of the lane do not go to the base
	Members []int32 // indexes of Plan.All
	among   int     // how many lanes share the bound on the endpoints that a client uses
}

// Lane returns where calls with this lane's name go: the lane or the base, nil
// if the lane is strict and empty.
func (p *Plan[E]) Lane(name string) *Lane {
	switch l := p.lanes[name]; {
	case l != nil:
		return l
	case name != "" && p.Config.Strict(name):
		return nil
	}

	return p.Base
}

// LaneError returns the error of a call for which Lane returns nil.
func (p *Plan[E]) LaneError(name string) error {
	if slices.ContainsFunc(p.All[p.ends[Departed]:], func(e E) bool {
		return slices.Contains(p.Placed.Of[p.Of(&e)], name)
	}) {
		return fmt.Errorf(
			"etcd: every endpoint of %q in the strict lane %.200q is drained", p.Service,
			name)
	}

	return fmt.Errorf("etcd: no endpoint of %q is in the strict lane %.200q", p.Service,
		name)
}

// Lanes yields the lanes that endpoints are in, without the base, in no order.
func (p *Plan[E]) Lanes() iter.Seq[*Lane] {
	return maps.Values(p.lanes)
}

// HasLanes reports whether calls may have a lane.
func (p *Plan[E]) HasLanes() bool {
	return p.Placed != nil
}

// makeLanes makes the base and the lanes, by the rules of addTo.
func (p *Plan[E]) makeLanes() {
	p.Base = &Lane{among: 1}
	if p.Placed == nil {
		p.Base.Members = p.indexes(0, len(p.All))
	} else {
		p.placeAll()
	}

	m := p.Base.Members
	if len(m) > 0 &&
		!p.ClassOf(int(m[0])).IsLive() &&
		p.ClassOf(int(m[len(m)-1])) == Drained {
		text := "drain leaves no endpoint, so calls go to drained ones"
		if p.HasLanes() {
			text = "drain leaves no endpoint for calls without a lane, which go to drained ones"
		}

		p.report("%s", text)
	}
}

// placeAll adds all endpoints to the base and to the lanes.
func (p *Plan[E]) placeAll() {
	p.Reports = append(p.Reports, p.Placed.Problems...)
	p.lanes = make(map[string]*Lane, len(p.Placed.Made))

	for i := range p.All {
		e := p.Of(&p.All[i])
		if p.Placed.IsBase(e) || p.ClassOf(i) == Departed &&
			(p.Live == 0 || !slices.ContainsFunc(p.Placed.Of[e], p.Config.Strict)) {
			p.Base.Members = append(p.Base.Members, int32(i))
		}

		for _, name := range p.Placed.Of[e] {
			p.addTo(name, i)
		}
	}

	for _, l := range p.lanes {
		l.among = len(p.lanes)
	}

	p.standIn()
}

// addTo adds an endpoint to a lane if the lane takes the endpoint. Departed
// endpoints are added to a lane that is strict or has endpoints, and to any
// lane if no endpoint is live. Endpoints of the fallback cluster are added only
// to a strict lane: calls of other lanes reach them by the base. No lane takes
// drained endpoints.
func (p *Plan[E]) addTo(name string, i int) {
	l := p.lanes[name]
	strict := p.Config.Strict(name)
	switch class := p.ClassOf(i); {
	case class == Away &&
		!strict, class == Departed && l == nil && p.Live > 0 && !strict, class == Drained:
		return
	case l == nil:
		l = &Lane{Name: name, Strict: strict}
		p.lanes[name] = l
	}

	l.Members = append(l.Members, int32(i))
}

// standIn adds the live endpoints to the base if all of them are in lanes and
// the base has no drained endpoint. It adds the endpoints of the fallback
// cluster if all of those are in lanes.
func (p *Plan[E]) standIn() {
	begin := 0
	for _, class := range []Class{OtherZones, Away} {
		end := p.ends[class]
		inBase := func(m int32) bool {
			return begin <= int(m) && int(m) < end ||
				class.IsLive() && p.ClassOf(int(m)) == Drained
		}
		if begin < end && !slices.ContainsFunc(p.Base.Members, inBase) {
			p.Base.Members = append(p.Base.Members, p.indexes(begin, end)...)

			if class.IsLive() {
				p.report("every endpoint that may be called is in a lane: calls without a lane go to all of them")
			}
		}

		begin = end
	}

	slices.Sort(p.Base.Members)
}

// indexes returns the indexes of some endpoints of All.
func (p *Plan[E]) indexes(begin, end int) []int32 {
	all := make([]int32, end-begin)
	for i := range all {
		all[i] = int32(begin + i)
	}

	return all
}

// These limits apply to lanes, which labels of endpoints can create.
const (
	// maxLabelLanes bounds the lanes that labels create. Beyond it, the lanes
	// whose names sort first are created.
	maxLabelLanes = 256

	// maxLanesOf bounds the lanes of one endpoint. Beyond it, the lanes of the
	// first routes count.
	maxLanesOf = 4
)

// Strict reports whether the calls of a lane fail while none of its endpoints
// is ready. The first route that names the lane or has a label decides. A lane
// without such a route is not strict.
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
	// Of holds the lanes of each endpoint outside the base. If the endpoint's
	// labels are invalid, or its lanes exceed the bound, the list is empty, and
	// the endpoint gets no calls.
	Of map[*endpoint.Endpoint][]string

	// Made has the names of the lanes with endpoints, sorted.
	Made []string

	// Problems are warnings for operators.
	Problems []string
}

// IsBase reports whether an endpoint belongs to the base: Of does not have it.
// p is nil without routes.
func (p *Placement) IsBase(e *endpoint.Endpoint) bool {
	if p == nil {
		return true
	}

	_, in := p.Of[e]

	return !in
}

// Place assigns endpoints to the lanes of the routes that match them. It
// returns nil without routes.
func (c *Config) Place(endpoints []*endpoint.Endpoint) *Placement {
	if len(c.Route) == 0 {
		return nil
	}

	p := &placing{
		Placement: &Placement{Of: make(map[*endpoint.Endpoint][]string)}, config: c,
		fits:    make([]bool, len(c.Route)),
		matched: make([]bool, len(c.Route)),
		made:    make(map[string]bool),
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
		p.report("%d labels of endpoints are not valid lanes, such as %s, so these endpoints are neither in a lane nor in the base: want %s",
			p.invalid, p.bad, serviceconfig.WantLane)
	}

	p.dropExcess()

	if p.crowded > 0 {
		p.report(
			"%d endpoints are in more than %d lanes: those of the first routes count",
			p.crowded, maxLanesOf)
	}

	return p.Placement
}

// placing is the state of [Config.Place].
type placing struct {
	*Placement
	config  *Config
	fits    []bool          // by route: the current endpoint satisfies the route's match
	matched []bool          // by route: some endpoint satisfies the route's match
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
	p.config.routes.each(e, func(i int) {
		p.fits[i] = true
		p.matched[i] = true
	})

	var lanes []string

	crowded := 0
	bad := p.invalid

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
			lanes = append(lanes, lane)
			p.made[lane] = true
		}
	}

	p.crowded += crowded

	if lanes != nil || p.invalid > bad {
		p.Of[e] = lanes
	}
}

// label returns the lane that a label names, "" if the label is empty or
// invalid.
func (p *placing) label(name, value string) string {
	if value == "" || serviceconfig.ValidLane(value) {
		return value
	}

	p.invalid++
	if p.invalid == 1 {
		p.bad = fmt.Sprintf("%.40q in %.80q", value, name)
	}

	return ""
}

// dropExcess sets Made to the sorted lanes. It drops the lanes that labels
// create beyond maxLabelLanes.
func (p *placing) dropExcess() {
	p.Made = slices.Sorted(maps.Keys(p.made))
	named := p.config.NamedLanes()
	excess := slices.DeleteFunc(slices.Clone(p.Made), func(lane string) bool {
		return slices.Contains(named, lane)
	})

	excess = excess[min(maxLabelLanes, len(excess)):]
	if len(excess) == 0 {
		return
	}

	p.report("labels make more than %d lanes: the last %d by name have no endpoint",
		maxLabelLanes, len(excess))
	isExcess := func(lane string) bool {
		_, is := slices.BinarySearch(excess, lane)
		return is
	}

	p.Made = slices.DeleteFunc(p.Made, isExcess)

	for e, lanes := range p.Of {
		p.Of[e] = slices.DeleteFunc(lanes, isExcess)
	}
}
