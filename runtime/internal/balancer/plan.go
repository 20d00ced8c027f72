package balancer

import (
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/connectivity"
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
	endpoints []resolver.Endpoint // that may be called at all
	conns     []*conn             // of endpoints; set by the core
	shared    []bool              // the endpoints to which calls may go by the old plan, too; nil: there is none
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
	p := &plan{in: in, instead: in.nothing()}
	p.sequence.Shuffle()
	if p.instead != nil {
		return p
	}
	if in.config.way != nil {
		p.traits = in.config.way.Traits()
		p.traits.Counts = p.traits.Counts || in.config.MaxConcurrentRequests > 0
	}
	p.placed = in.placeInLanes()
	p.endpoints = p.selectFrom(p.drain(in.endpoints))
	if p.instead != nil {
		return p
	}
	p.differ = p.methodsDiffer()
	p.divideByLane()
	p.reportSplit()
	p.reportTwins()
	return p
}

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

	settled atomic.Bool // it could serve, or nothing in it was left to be tried, or the old plan has none of its endpoints
	making  sync.Mutex  // the next snapshot
	last    atomic.Pointer[snapshot]
}

// group is the endpoints that have one share of a view's calls.
type group struct {
	id     uint64 // of its split; 0: none
	weight uint32
	tiers  []*tier // in order of preference
}

// tier is endpoints of a group between which nothing but the way of picking decides.
type tier struct {
	*picking.Tier
	members []int32 // of plan.endpoints
	zone    int
	first   atomic.Pointer[conn] // to which the core has all calls go while it is ready; nil: none yet, or picks are among all
}

// connsOf yields the connections of a group, in order of preference.
func (p *plan) connsOf(g *group) iter.Seq[*conn] {
	return func(yield func(*conn) bool) {
		for _, t := range g.tiers {
			for _, m := range t.members {
				if !yield(p.conns[m]) {
					return
				}
			}
		}
	}
}

// isSettled reports whether all that calls have asked for can serve, or has nothing left to be tried.
func (p *plan) isSettled() bool {
	if p.child != nil {
		return p.child.State() != connectivity.Connecting
	}
	for _, v := range p.called() {
		if !v.isSettled() {
			return false
		}
	}
	return true
}
