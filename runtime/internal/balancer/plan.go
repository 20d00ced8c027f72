package balancer

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// plan says which endpoints a call may go to. A call's lane and method select a view, its share a group of the view, and the
// order of preference the first tier of the group with a ready endpoint. The way of picking chooses within the tier. The plan is
// immutable, except that calls add views, that the core sets conns once, and that the core sets which members a tier uses.
type plan struct {
	in        *input
	traits    picking.Traits
	way       picking.Way
	endpoints []resolver.Endpoint // that calls may go to, part by part
	live      int                 // how many of endpoints are live
	ends      [drained + 1]int    // where the part of a class ends in endpoints; those in other zones are live
	conns     []*conn             // of endpoints; set by the core
	placed    *placed             // nil: there are no lanes
	base      *lane
	lanes     map[string]*lane // that have endpoints
	reports   []string         // problems of the config, for people
	viewMade  func()           // reports a new view, which may need more connections
	empty     error            // why no endpoint is live; nil: some are
	sequence  picking.Sequence // of the choices among groups
	rings     picking.Rings
	differ    bool // the endpoints do not all serve the same methods

	making sync.Mutex
	views  []*view // that calls have asked for, guarded by making
}

// makePlan leaves out the endpoints that a connection may not call, and divides the rest by lane. Together with route, it is the
// order of steps from the entries of a key to a pick: package discovery merges and holds entries; then come drain, selector, lane,
// methods, split, zone, subset, and the way of picking.
func makePlan(in *input) *plan {
	p := &plan{in: in, way: in.config.way}
	p.sequence.Shuffle()
	if p.way != nil {
		p.traits = p.way.Traits()
		p.traits.Counts = p.traits.Counts || in.config.MaxConcurrentRequests > 0
	}
	p.placed = in.placeInLanes()
	live, out := p.drain(in.endpoints)
	p.divideByPart(selected(live, in.client), in.lent(), selected(in.left, in.client), selected(out, in.client))
	if p.live == 0 {
		p.empty = in.whyEmpty(len(live))
	}
	p.differ = p.methodsDiffer()
	p.divideByLane()
	if p.live > 0 {
		p.reportSplit()
		p.reportTwins()
	}
	return p
}

// targetsOnly returns a plan without endpoints. Only calls that name their instance are served by it.
func targetsOnly(in *input, empty error) *plan {
	p := &plan{in: in, empty: empty}
	p.divideByLane()
	return p
}

// divideByPart sets the endpoints of the plan.
func (p *plan) divideByPart(live, lent, gone, out []resolver.Endpoint) {
	p.endpoints, p.live = live, len(live)
	if len(lent)+len(gone)+len(out) > 0 {
		p.endpoints = slices.Concat(live, lent, gone, out)
	}
	p.ends[ownZone], p.ends[otherZones] = p.live, p.live
	p.ends[away] = p.live + len(lent)
	p.ends[left] = p.ends[away] + len(gone)
	p.ends[drained] = len(p.endpoints)
}

// partOf returns the class of an endpoint, apart from zones.
func (p *plan) partOf(i int) class {
	switch {
	case i < p.live:
		return ownZone
	case i < p.ends[away]:
		return away
	case i < p.ends[left]:
		return left
	}
	return drained
}

// report notes a problem of the config.
func (p *plan) report(format string, args ...any) {
	p.reports = append(p.reports, fmt.Sprintf(format, args...))
}

// reportTwins reports the instance ids that more than one endpoint has.
func (p *plan) reportTwins() {
	if sum := p.in.summary; sum != nil && sum.Twins > 0 {
		p.report("%d endpoints have an instance id that another has, such as %.80q: they are told apart by their addresses", sum.Twins, sum.Twin)
	}
}

// view is where calls of one lane go, or calls without a lane, for methods that the same instances serve. All views of a plan
// share its connections.
type view struct {
	plan   *plan
	groups []group
	lane   *lane
	method string // of the call that it was made for

	making sync.Mutex // the next snapshot
	last   atomic.Pointer[snapshot]
}

// group is a set of endpoints that share one weight of a view's split.
type group struct {
	id     uint64 // of its split; 0: none
	weight uint32
	tiers  []*tier // in order of preference
}

// tier is the endpoints of a group that are equally preferred: the way of picking decides among them.
type tier struct {
	class   class
	ranking []int32 // indexes of plan.endpoints, the preferred first; nil: the connection uses all
	most    int     // how many of ranking it uses
	use     atomic.Pointer[use]
	first   atomic.Pointer[conn] // under pick_first, the connection that takes all calls; set by the core; nil: none yet
}

// use is the members of a tier that a connection uses. It is immutable.
type use struct {
	*picking.Tier
	members []int32 // of plan.endpoints
}

// class says how preferred a tier is.
type class int

// The classes, in the order of preference. Endpoints of the first two are live. A class after them takes calls only while no class
// before it can.
const (
	ownZone class = iota // or any zone, where zones do not count
	otherZones
	away    // of the cluster to fall back on
	left    // etcd no longer has these, and they are still connected
	drained // by an operator
)

func (c class) isLive() bool { return c < away }

// uses sets which members of a tier the connection uses.
func (t *tier) uses(p *plan, members []int32) {
	if t.ranking != nil {
		members = inOrder(members)
	}
	if now := t.use.Load(); now != nil && slices.Equal(now.members, members) {
		return
	}
	ring := func() ([]string, []uint64) { return p.ringOf(members) }
	t.use.Store(&use{picking.NewTier(&p.rings, ring), members})
}

// isServed reports whether a connection before a class is ready.
func (v *view) isServed(before class) bool {
	return v.has(before, func(c *condition) bool { return c.readiness == ready })
}

// lacks reports whether no connection before a class is ready, or tried and not late.
func (v *view) lacks(before class) bool {
	return !v.has(before, func(c *condition) bool { return c.readiness == ready || c.readiness == trying && !c.late })
}

// has reports whether the condition of a connection before a class satisfies a predicate.
func (v *view) has(before class, condition func(*condition) bool) bool {
	for _, g := range v.groups {
		for _, t := range g.tiers {
			if t.class >= before {
				break
			}
			for _, m := range t.use.Load().members {
				if condition(v.plan.conns[m].current.Load()) {
					return true
				}
			}
		}
	}
	return false
}
