package balancer

import (
	"fmt"
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// lanes says which endpoints are in which lanes, and which views serve the calls of a lane.
type lanes struct {
	service string
	config  *serviceconfig.Lanes
	placed  *serviceconfig.Placement
	of      map[*endpoint.Endpoint][]string // the endpoints in a lane; what is not there is the base
	noBase  bool                            // there is no base: all endpoints stand in for it
	header  string                          // names the lane of a call whose context names none; "": no header does
	views   map[string][]int                // by lane; for each view by methods the one of the lane, or noView
}

// noView stands for the view of calls that have none: they fail.
const noView = -1

// placeInLanes returns the lanes of the endpoints, nil if no route asks for lanes.
func (in *input) placeInLanes() *lanes {
	config := in.config.lanes
	if config == nil {
		return nil
	}
	all := make([]*endpoint.Endpoint, len(in.endpoints))
	for i, ep := range in.endpoints {
		all[i] = attr.Endpoint(ep)
	}
	l := &lanes{
		service: in.service, config: config, header: in.config.LaneHeader,
		of: make(map[*endpoint.Endpoint][]string), views: make(map[string][]int),
	}
	l.placed = config.Place(len(all), func(i int, name string) string {
		if all[i] == nil {
			return ""
		}
		return all[i].Field(name)
	})
	for i, in := range l.placed.Of {
		if all[i] != nil {
			l.of[all[i]] = in
		}
	}
	return l
}

// isBase reports whether an endpoint is in no lane.
func (l *lanes) isBase(ep resolver.Endpoint) bool {
	if l == nil {
		return true
	}
	_, in := l.of[attr.Endpoint(ep)]
	return !in
}

// base returns the endpoints that are in no lane.
func (l *lanes) base(endpoints []resolver.Endpoint) []resolver.Endpoint {
	if l == nil || len(l.of) == 0 {
		return endpoints
	}
	left := make([]resolver.Endpoint, 0, len(endpoints))
	for _, ep := range endpoints {
		if l.isBase(ep) {
			left = append(left, ep)
		}
	}
	return left
}

// keepBase returns what a drain has left of endpoints and, if it leaves none of the base, or only held ones
// while others are not, the base: the calls without a lane would go to the lanes.
func (p *plan) keepBase(endpoints, left []resolver.Endpoint) []resolver.Endpoint {
	if p.lanes == nil {
		return left
	}
	base, stay := p.lanes.base(endpoints), p.lanes.base(left)
	if len(base) == 0 || len(stay) > 0 && !(p.in.allHeld(stay) && !p.in.allHeld(base)) {
		return left
	}
	p.report("drain leaves no endpoint that is in no lane, and is ignored for these %d", len(base))
	named := make(map[string]bool)
	return slices.DeleteFunc(slices.Clone(endpoints), func(ep resolver.Endpoint) bool {
		return !p.lanes.isBase(ep) && p.in.config.drains(ep, named)
	})
}

// laneSet is the endpoints of a lane, or of the base, that serve a set of methods.
type laneSet struct {
	name      string
	endpoints []resolver.Endpoint
	view      int // of the plan
	among     int // how many sets share the connections that they may have
}

// byLane returns the endpoints of a view by methods that are in no lane, and then those of each lane. It makes
// the views of the plan that they are for.
func (p *plan) byLane(method int, served []resolver.Endpoint) []laneSet {
	base := laneSet{endpoints: p.lanes.base(served), view: method, among: 1}
	if p.lanes != nil && method == 0 {
		p.lanes.noBase = len(base.endpoints) == 0
	}
	if p.lanes != nil && p.lanes.noBase {
		base.endpoints = served
	}
	if len(base.endpoints) == 0 && method > 0 {
		p.views[method].next = 0 // the base does not serve these methods: let it say so
	}
	if p.lanes == nil {
		return []laneSet{base}
	}
	return append([]laneSet{base}, p.laneSets(method, served)...)
}

// laneSets returns the endpoints of each lane in a view by methods.
func (p *plan) laneSets(method int, served []resolver.Endpoint) []laneSet {
	l := p.lanes
	members := make(map[string][]resolver.Endpoint, len(l.placed.Made))
	for _, ep := range served {
		for _, lane := range l.of[attr.Endpoint(ep)] {
			members[lane] = append(members[lane], ep)
		}
	}
	var sets []laneSet
	for _, lane := range l.placed.Made {
		if len(members[lane]) == 0 {
			l.leadOn(lane, method)
			continue
		}
		strict := l.config.Strict(lane)
		next := method
		if strict {
			next = noView
		}
		l.views[lane] = append(l.views[lane], len(p.views))
		sets = append(sets, laneSet{lane, members[lane], len(p.views), len(members)})
		p.views = append(p.views, view{lane: lane, strict: strict, next: next})
	}
	for _, lane := range l.config.Named() {
		if len(l.views[lane]) == method {
			l.leadOn(lane, method)
		}
	}
	return sets
}

// leadOn has the calls of a lane go on to another view, because no endpoint of it serves a view's methods: to
// the base or, if the lane is strict, to the endpoints of the lane, to say so.
func (l *lanes) leadOn(lane string, method int) {
	to := method
	switch {
	case !l.config.Strict(lane):
	case method > 0:
		to = l.views[lane][0]
	default:
		to = noView
	}
	l.views[lane] = append(l.views[lane], to)
}

// view returns the view of a lane for the methods of a view, and noView if the calls fail. It allocates
// nothing.
func (l *lanes) view(lane string, method int) int {
	views, ok := l.views[lane]
	switch {
	case ok:
		return views[method]
	case l.config.Strict(lane):
		return noView
	default:
		return method
	}
}

// empty returns the error for a call of a strict lane that has no endpoint.
func (l *lanes) empty(lane string) error {
	return fmt.Errorf("etcd: no endpoint of %q is in the lane %.200q, which is strict", l.service, lane)
}

// reportLanes reports what is wrong with the lanes.
func (p *plan) reportLanes() {
	if p.lanes == nil {
		return
	}
	p.reports = append(p.reports, p.lanes.placed.Problems...)
	if p.lanes.noBase && len(p.views) > 0 {
		p.report("every endpoint that may be called is in a lane: calls without a lane go to all of them")
	}
}
