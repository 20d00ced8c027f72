package balancer

import (
	"fmt"
	"maps"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// maxRoutes bounds how many methods of a lane have routes that are kept. A caller has few, save one that passes on the
// calls of others.
const maxRoutes = 1024

// maxMethod is the greatest length of a method's name that has a route of its own. Longer ones, which no server has, are
// taken for a method that no endpoint names.
const maxMethod = 1024

// route is where the calls of a lane go, or those of one of its methods.
type route struct{ first, then *view } // then takes what first cannot; nil: nothing does

// route returns the views of a call: that of its lane and method and, where it may go there as well, the base's.
func (p *plan) route(info *balancer.PickInfo, o *calloptions.Options) (*route, error) {
	l := p.base
	if p.placed != nil {
		if name := calloptions.LaneOf(info.Ctx, o, p.in.config.LaneHeader); name != "" {
			if in := p.lanes[name]; in != nil {
				l = in
			} else if p.placed.config.Strict(name) {
				return nil, fmt.Errorf("etcd: no endpoint of %q is in the lane %.200q, which is strict", p.in.service, name)
			}
		}
	}
	if !p.differ || len(info.FullMethodName) > maxMethod {
		if r := l.route.Load(); r != nil {
			return r, nil
		}
		return p.addRoute(l, ""), nil
	}
	if r := (*l.routes.Load())[info.FullMethodName]; r != nil {
		return r, nil
	}
	return p.addRoute(l, info.FullMethodName), nil
}

// addRoute makes a route, and the views that it needs. method is "" where all endpoints serve the same, and for what no
// endpoint names.
func (p *plan) addRoute(l *lane, method string) *route {
	p.making.Lock()
	defer p.making.Unlock()
	known := *l.routes.Load()
	if r := known[method]; r != nil {
		return r
	}
	made := len(p.views)
	r := p.makeRoute(l, method)
	next := make(map[string]*route, len(known)+1)
	if len(known) < maxRoutes {
		maps.Copy(next, known)
	}
	next[method] = r
	l.routes.Store(&next)
	if method == "" {
		l.route.Store(r)
	}
	if len(p.views) > made && (p.traits.Single || p.chooses()) && p.viewMade != nil {
		p.viewMade()
	}
	return r
}

// makeRoute must be called with making held.
func (p *plan) makeRoute(l *lane, method string) *route {
	base := p.viewIn(p.base, nil, method)
	if l == p.base {
		return &route{first: base}
	}
	own := p.viewIn(l, p.base, method)
	switch {
	case own == nil && l.strict: // only the base serves the method: the lane's own answer says so
		return &route{first: p.viewIn(l, nil, method)}
	case own == nil:
		return &route{first: base}
	case l.strict:
		return &route{first: own}
	}
	return &route{first: own, then: base}
}

// viewIn returns the view of a lane's endpoints that serve a call, nil if only other ones are known to. It must be called
// with making held.
func (p *plan) viewIn(l, other *lane, method string) *view {
	if l.views == nil {
		l.classes, l.views = p.classesOf(l.members), make(map[uint32]*view)
	}
	var others []string
	if other != nil {
		others = other.classes.texts
	}
	in, elsewhere := methods.Serving(method, l.classes.texts, others)
	switch {
	case elsewhere:
		return nil
	case len(l.views) > methods.MaxTexts && l.views[in] == nil:
		in = methods.Every
	}
	v := l.views[in]
	if v == nil {
		v = p.makeView(l, in, method)
		l.views[in] = v
		p.views = append(p.views, v)
	}
	return v
}

// makeView divides the endpoints of a lane that are in some classes.
func (p *plan) makeView(l *lane, in uint32, method string) *view {
	members := l.members
	if in != methods.Every {
		members = nil
		for i, m := range l.members {
			if in&(1<<l.classes.of[i]) != 0 {
				members = append(members, m)
			}
		}
		if int(members[0]) >= p.live && int(l.members[0]) < p.live { // the last resort alone serves the method, and may soon end
			members = l.members
		}
	}
	v := &view{plan: p, lane: l, method: method}
	groups := p.bySplit(members)
	most := p.mostOf(l.sharers * len(groups))
	for g, share := range groups {
		group := group{weight: p.in.config.weight(g)}
		if g < len(p.in.config.ids) {
			group.id = p.in.config.ids[g]
		}
		for at, members := range p.byClass(share) {
			if len(members) > 0 {
				group.tiers = append(group.tiers, p.makeTier(class(at), members, most))
			}
		}
		if len(group.tiers) > 0 {
			v.groups = append(v.groups, group)
		}
	}
	return v
}

// ringOf returns what the ring of members is made of: their names and their weights.
func (p *plan) ringOf(members []int32) (names []string, weights []uint64) {
	names, weights = make([]string, len(members)), make([]uint64, len(members))
	for i, m := range members {
		ep, before := &p.endpoints[m], ""
		if m > 0 {
			before = instance(&p.endpoints[m-1])
		}
		names[i], weights[i] = endpoint.RingName(instance(ep), address(ep), before), weightOf(ep)
	}
	return names, weights
}

// adopt makes the view of calls that ask for nothing, and those that calls have asked the plan before for, which may be nil.
func (p *plan) adopt(before *plan) {
	p.addRoute(p.base, "")
	if before == nil {
		return
	}
	for _, v := range before.called() {
		l := p.lanes[v.lane.name]
		if v.lane.name == "" {
			l = p.base
		}
		if l != nil {
			p.addRoute(l, v.method)
		}
	}
}

// called returns the views that calls have asked for.
func (p *plan) called() []*view {
	p.making.Lock()
	defer p.making.Unlock()
	return p.views[:len(p.views):len(p.views)]
}
