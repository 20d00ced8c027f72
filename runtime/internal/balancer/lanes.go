package balancer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// lanes says which endpoints are in which lanes, and which views serve the calls of a lane. What the endpoints of a
// lane serve concerns no other lane, and not the base.
type lanes struct {
	service string
	config  *serviceconfig.Lanes
	placed  *serviceconfig.Placement
	of      map[*endpoint.Endpoint][]string // the endpoints in a lane; what is not there is the base
	noBase  bool                            // there is no base: all endpoints stand in for it
	header  string                          // names the lane of a call whose context names none; "": no header does
	paths   map[string]lanePaths            // by lane, of the lanes that have endpoints
	routes  map[string]*routes              // by the classes of a lane's endpoints and the base's
}

// What view returns where a call goes to no view of its lane.
const (
	noView  = -1 // it fails
	theBase = -2
)

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
		of: make(map[*endpoint.Endpoint][]string), paths: make(map[string]lanePaths), routes: make(map[string]*routes),
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

// lanePaths says where the calls of a lane go.
type lanePaths struct {
	routes *routes
	views  []int // of the plan, by those of routes
	none   int   // the view for what only others serve: theBase, or the lane's first, to say so
}

// baseOf returns the endpoints of the base, all if there is none.
func (p *plan) baseOf(endpoints []resolver.Endpoint) []resolver.Endpoint {
	base := p.lanes.base(endpoints)
	if p.lanes != nil && len(base) == 0 {
		p.lanes.noBase = true
		return endpoints
	}
	return base
}

// byLane returns the endpoints of each lane and, where not all of a lane serve the same methods, those that serve
// what others do not. classes are the base's. The sets become views of the plan beside the n that the base has.
func (p *plan) byLane(endpoints []resolver.Endpoint, n int, classes []string, before *plan) []set {
	l := p.lanes
	if l == nil || n == 0 {
		return nil
	}
	members := make(map[string][]resolver.Endpoint, len(l.placed.Made))
	for _, ep := range endpoints {
		for _, lane := range l.of[attr.Endpoint(ep)] {
			members[lane] = append(members[lane], ep)
		}
	}
	var sets []set
	for _, lane := range l.placed.Made {
		if len(members[lane]) == 0 {
			continue
		}
		strict := l.config.Strict(lane)
		own := classesOf(members[lane])
		paths := lanePaths{routes: l.routesOf(own, classes, before), views: []int{n + len(sets)}, none: theBase}
		if strict {
			paths.none = n + len(sets)
		}
		add := func(endpoints []resolver.Endpoint, methods string) {
			sets = append(sets, set{leafKey{lane: lane, methods: methods}, endpoints, len(members), strict})
		}
		add(members[lane], textOf(own, nil))
		for i, served := range viewsOf(members[lane], own, paths.routes.sets) {
			paths.views = append(paths.views, n+len(sets))
			add(served, textOf(own, paths.routes.sets[i]))
		}
		l.paths[lane] = paths
	}
	return sets
}

// textOf returns a text that identifies those classes that are in a set, or all if that is nil. If they are too many
// to be kept apart, it is "".
func textOf(classes []string, in []bool) string {
	var text strings.Builder
	for i, class := range classes {
		if in == nil || in[i] {
			text.WriteString(strconv.Itoa(len(class)))
			text.WriteByte(' ')
			text.WriteString(class)
		}
	}
	return text.String()
}

// routesOf returns the routes of a lane whose endpoints are of some classes, beside those of the base. Most lanes
// share theirs, with each other and with the plan before.
func (l *lanes) routesOf(own, base []string, before *plan) *routes {
	if own == nil || slices.Equal(own, base) && len(own) == 1 {
		return new(routes)
	}
	key := strconv.Itoa(len(own)) + " " + textOf(own, nil) + textOf(base, nil)
	r := l.routes[key]
	if r == nil && before != nil && before.lanes != nil {
		r = before.lanes.routes[key]
	}
	if r == nil {
		made := makeRoutes(own, base)
		r = &made
	}
	l.routes[key] = r
	return r
}

// view returns the view of a lane for a method, theBase if that is to take the call, and noView if it fails. It
// allocates nothing.
func (l *lanes) view(lane, method string) int {
	paths, ok := l.paths[lane]
	switch {
	case ok:
		if i := paths.routes.view(method); i != elsewhere {
			return paths.views[i]
		}
		return paths.none
	case l.config.Strict(lane):
		return noView
	default:
		return theBase
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
