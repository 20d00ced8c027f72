package balancer

import (
	"fmt"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

func newLane(name string) *lane {
	l := &lane{name: name}
	l.routes.Store(&map[string]*route{})
	return l
}

// placeInLanes returns the lanes of the endpoints, nil if no route asks for lanes.
func (in *input) placeInLanes() *placed {
	config := in.config.lanes
	if config == nil {
		return nil
	}
	all := make([]*endpoint.Endpoint, len(in.endpoints))
	for i, ep := range in.endpoints {
		all[i] = attr.Endpoint(ep)
	}
	l := &placed{config: config, of: make(map[*endpoint.Endpoint][]string)}
	l.Placement = config.Place(len(all), func(i int, name string) string {
		if all[i] == nil {
			return ""
		}
		return all[i].Field(name)
	})
	for i, in := range l.Of {
		if all[i] != nil {
			l.of[all[i]] = in
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

// divideByLane makes the base and the lanes. Where all endpoints are in lanes, all of them stand in for the base.
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
			l := p.lanes[name]
			if l == nil {
				l = newLane(name)
				l.strict = p.placed.config.Strict(name)
				p.lanes[name] = l
			}
			l.members = append(l.members, int32(i))
		}
	}
	for _, l := range p.lanes {
		l.sharers = len(p.lanes)
	}
	if len(p.base.members) == 0 {
		p.base.members = p.all()
		p.report("every endpoint that may be called is in a lane: calls without a lane go to all of them")
	}
}

// emptyLane returns the error for a call of a strict lane that has no endpoint.
func (p *plan) emptyLane(lane string) error {
	return fmt.Errorf("etcd: no endpoint of %q is in the lane %.200q, which is strict", p.in.service, lane)
}
