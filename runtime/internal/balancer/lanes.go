package balancer

import (
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// lane is the endpoints of a lane, or of the base, which is where calls without a lane go.
type lane struct {
	name    string // "": the base
	strict  bool
	members []int32 // of plan.endpoints
	sharers int     // how many lanes share the bound on the endpoints of a connection

	route  atomic.Pointer[route]             // of all calls, where all endpoints serve the same; nil: not made yet
	routes atomic.Pointer[map[string]*route] // by method, of those that were called

	// Made by the first call, guarded by plan.making.
	classes classes
	views   map[uint32]*view // by the classes in them, as bits
}

func newLane(name string) *lane {
	l := &lane{name: name}
	l.routes.Store(&map[string]*route{})
	return l
}

// placed says which endpoints are in which lanes.
type placed struct {
	config *serviceconfig.Lanes
	*serviceconfig.Placement
	of map[*endpoint.Endpoint][]string // the endpoints in a lane; what is not there is the base
}

// placeInLanes returns the lanes of the endpoints, nil if no route asks for lanes.
func (in *input) placeInLanes() *placed {
	config := in.config.lanes
	if config == nil {
		return nil
	}
	l := &placed{config: config, of: make(map[*endpoint.Endpoint][]string)}
	all := slices.Concat(in.endpoints, in.away, in.left)
	l.Placement = config.Place(len(all), func(i int, name string) string {
		if e := attr.Endpoint(all[i]); e != nil {
			return e.Field(name)
		}
		return ""
	})
	for i, names := range l.Of {
		if e := attr.Endpoint(all[i]); e != nil {
			l.of[e] = names
		}
	}
	return l
}

// isBase reports whether an endpoint is in no lane.
func (l *placed) isBase(ep *resolver.Endpoint) bool {
	if l == nil {
		return true
	}
	_, in := l.of[attr.Endpoint(*ep)]
	return !in
}

// divideByLane makes the base and the lanes. Where all endpoints of a part are in lanes, all of them stand in for the base. An
// endpoint that is not live stays in its lane while that has live ones, or nothing is live and the lane is not strict. A strict lane
// may be in the other cluster alone.
func (p *plan) divideByLane() {
	p.base = newLane("")
	p.base.sharers = 1
	if p.placed == nil {
		p.base.members = p.all()
		return
	}
	p.reports = append(p.reports, p.placed.Problems...)
	p.lanes = make(map[string]*lane, len(p.placed.Made))
	for i := range p.endpoints {
		names, in := p.placed.of[attr.Endpoint(p.endpoints[i])]
		if !in {
			p.base.members = append(p.base.members, int32(i))
		}
		for _, name := range names {
			l, strict := p.lanes[name], p.placed.config.Strict(name)
			switch p.partOf(i) {
			case away:
				if !strict {
					continue // the base's calls leave
				}
			case left:
				if l == nil && (p.live > 0 || strict) {
					continue
				}
			case drained:
				continue
			}
			if l == nil {
				l = newLane(name)
				l.strict = strict
				p.lanes[name] = l
			}
			l.members = append(l.members, int32(i))
		}
	}
	for _, l := range p.lanes {
		l.sharers = len(p.lanes)
	}
	p.standIn()
}

// standIn adds each part of the endpoints that is wholly in lanes to the base.
func (p *plan) standIn() {
	begin := 0
	for _, part := range []class{ownZone, away, left} {
		end := p.ends[part]
		inBase := func(m int32) bool { return begin <= int(m) && int(m) < end }
		if begin < end && !slices.ContainsFunc(p.base.members, inBase) {
			p.base.members = append(p.base.members, p.all()[begin:end]...)
			if part == ownZone {
				p.report("every endpoint that may be called is in a lane: calls without a lane go to all of them")
			}
		}
		begin = end
	}
	slices.Sort(p.base.members)
}
