package balancer

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/childpolicy"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// plan says which endpoints a call may go to. A call's lane and method lead to a view of the connections. Within the view,
// shares lead to a group, and the order of preference to the first of its tiers in which an endpoint is ready; there the way
// of picking chooses. The plan is immutable, save that calls bring views into being, that connections are given to it
// once, and that pick_first notes where it goes. A view is indexes, so its memory is small beside the connections'.
type plan struct {
	in        *input
	traits    picking.Traits
	way       picking.Way
	endpoints []resolver.Endpoint // that may be called at all: those that have left, and then those that are drained, come last
	live      int                 // how many of endpoints have neither left nor are drained: see class
	drained   int                 // how many are drained
	conns     []*conn             // of endpoints; set by the core
	placed    *placed             // nil: there are no lanes
	base      *lane
	lanes     map[string]*lane   // that have endpoints
	reports   []string           // problems of the config, for people
	viewMade  func()             // tells that there is a view for which the plan may want more connections
	instead   *instead           // of picks, where there is nothing to call; else nil
	child     *childpolicy.Child // picks among endpoints, where the way of picking is not ours
	sequence  picking.Sequence   // of the choices among groups
	rings     picking.Rings
	differ    bool // some of endpoints serve other methods than others

	making sync.Mutex
	views  []*view // that calls have asked for, guarded by making
}

// makePlan leaves out what a connection may not call, and divides the rest by lane. With route, it is the order of passes
// from the entries of a key to a pick. Package discovery has merged and held them; then come drain, selector, lane, methods,
// split, zone, subset, and the way of picking.
func makePlan(in *input) *plan {
	p := &plan{in: in, instead: in.nothing(), way: in.config.way}
	p.sequence.Shuffle()
	if in.client.TargetsOnly {
		return p
	}
	if p.way == nil { // for calls that another policy cannot take yet
		p.way = picking.RoundRobin()
	}
	p.traits = p.way.Traits()
	p.traits.Counts = p.traits.Counts || in.config.MaxConcurrentRequests > 0
	p.placed = in.placeInLanes()
	live, drained := p.drain(in.endpoints)
	p.endpoints = p.selectFrom(live)
	p.live = len(p.endpoints)
	if len(in.left)+len(drained) > 0 {
		drained = selected(drained, in.client)
		p.drained = len(drained)
		p.endpoints = slices.Concat(p.endpoints, selected(in.left, in.client), drained)
	}
	p.differ = p.methodsDiffer()
	p.divideByLane()
	if p.instead == nil {
		p.reportSplit()
		p.reportTwins()
	}
	return p
}

// hasLeft reports whether the key has an endpoint of the plan no longer.
func (p *plan) hasLeft(i int) bool { return i >= p.live && i < len(p.endpoints)-p.drained }

// report notes a problem of the config.
func (p *plan) report(format string, args ...any) {
	p.reports = append(p.reports, fmt.Sprintf(format, args...))
}

// reportTwins reports instance ids that two endpoints have.
func (p *plan) reportTwins() {
	if sum := p.in.summary; sum != nil && sum.Twins > 0 {
		p.report("%d endpoints have an instance id that another has, such as %.80q: they are told apart by their addresses", sum.Twins, sum.Twin)
	}
}

// view is where the calls of one kind go: those of a lane, or without one, of methods that the same instances serve. All
// views of a plan are of one set of connections.
type view struct {
	plan   *plan
	groups []group
	lane   *lane
	method string // of a call that it was made for

	making sync.Mutex // the next snapshot
	last   atomic.Pointer[snapshot]
}

// group is the endpoints that have one share of a view's calls.
type group struct {
	id     uint64 // of its split; 0: none
	weight uint32
	tiers  []*tier // in order of preference
}

// tier is endpoints of a group between which nothing but the way of picking decides.
type tier struct {
	class   class
	ranking []int32 // of plan.endpoints, those that the connection uses first; nil: it uses all
	most    int     // how many of ranking it uses
	use     atomic.Pointer[use]
	first   atomic.Pointer[conn] // to which the core has all calls go while it is ready; nil: none yet, or picks are among all
}

// use is the members of a tier that a connection uses. It is immutable.
type use struct {
	*picking.Tier
	members []int32 // of plan.endpoints
}

// class is why calls go to the endpoints of a tier before they go to others. Classes are in the order of preference.
type class int

// The classes. Those behind others are the last resort: calls go there only while nothing else can take them.
const (
	ownZone class = iota // or any zone, where zones do not count
	otherZones
	left    // etcd has these no longer, and they are still connected
	drained // by an operator
)

func (c class) isLastResort() bool { return c >= left }

// uses notes which members a connection uses.
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

// connsOf returns the connections of members.
func (p *plan) connsOf(members []int32) []*conn {
	conns := make([]*conn, len(members))
	for i, m := range members {
		conns[i] = p.conns[m]
	}
	return conns
}

// isServed reports whether a connection that is not the last resort is ready.
func (v *view) isServed() bool {
	return v.has(func(c *condition) bool { return c.readiness == ready })
}

// lacks reports whether no connection is ready, or may soon be, but for the last resort.
func (v *view) lacks() bool {
	return !v.has(func(c *condition) bool { return c.readiness == ready || c.readiness == trying && !c.late })
}

// has reports whether a connection is in a condition, those that are the last resort aside.
func (v *view) has(condition func(*condition) bool) bool {
	for _, g := range v.groups {
		for _, t := range g.tiers {
			if t.class.isLastResort() {
				continue
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
