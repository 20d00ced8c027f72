package balancer

import (
	"maps"

	"google.golang.org/grpc/balancer"
)

// call is what of a call decides on its view.
type call struct{ lane, method string }

// route is where calls go.
type route struct {
	first, then *view // then takes what first cannot; nil: nothing does
	err         error // why there is no view
}

// maxRoutes bounds how many routes are known. A caller has few methods, save one that passes on the calls of others.
const maxRoutes = 4096

// route returns the views of a call: that of its lane and method and, where it may go there as well, the base's.
func (p *plan) route(info balancer.PickInfo, w *wishes) (first, then *view, err error) {
	var of call
	if p.placed != nil {
		of.lane = laneOf(info.Ctx, w, p.in.config.LaneHeader)
		if l := p.lanes[of.lane]; l == nil && of.lane != "" {
			if p.placed.config.Strict(of.lane) {
				return nil, nil, p.emptyLane(of.lane)
			}
			of.lane = ""
		}
	}
	if s := p.in.summary; s == nil || len(s.Methods) > 1 {
		of.method = info.FullMethodName
	}
	r, ok := (*p.routes.Load())[of]
	if !ok {
		r = p.find(of)
		if p.traits.single || p.chooses() {
			p.asked()
		}
	}
	return r.first, r.then, r.err
}

// find makes a route, and the views that it needs.
func (p *plan) find(of call) route {
	p.making.Lock()
	defer p.making.Unlock()
	known := *p.routes.Load()
	if r, ok := known[of]; ok {
		return r
	}
	r := route{first: p.viewIn(p.base, nil, of)}
	if l := p.lanes[of.lane]; l != nil {
		own := p.viewIn(l, p.base, of)
		switch {
		case own == nil && l.strict: // only the base serves the method: the lane's own answer says so
			r = route{first: p.viewIn(l, nil, of)}
		case own == nil:
		case l.strict:
			r = route{first: own}
		default:
			r = route{first: own, then: r.first}
		}
	}
	next := make(map[call]route, len(known)+1)
	if len(known) < maxRoutes {
		maps.Copy(next, known)
	}
	next[of] = r
	p.routes.Store(&next)
	return r
}

// viewIn returns the view of a lane's endpoints that serve a call, nil if only other ones are known to. It must be called
// with making held.
func (p *plan) viewIn(l, other *lane, of call) *view {
	if l.views == nil {
		l.classes, l.views = p.classesOf(l.members), make(map[uint32]*view)
	}
	var others []string
	if other != nil {
		others = other.classes.texts
	}
	in, elsewhere := serving(of.method, l.classes.texts, others)
	switch {
	case elsewhere:
		return nil
	case len(l.views) > maxClasses && l.views[in] == nil:
		in = everyClass
	}
	v := l.views[in]
	if v == nil {
		v = p.makeView(l, in, of)
		l.views[in] = v
		p.views = append(p.views, v)
	}
	return v
}

// makeView divides the endpoints of a lane that are in some classes.
func (p *plan) makeView(l *lane, in uint32, of call) *view {
	members := l.members
	if in != everyClass {
		members = nil
		for i, m := range l.members {
			if in&(1<<l.classes.of[i]) != 0 {
				members = append(members, m)
			}
		}
	}
	v := &view{plan: p, of: of, strict: l.strict}
	groups := p.bySplit(members)
	most := bounds{p.in.subsetOf(), mostOf(p.in.client.Most, l.among*len(groups))}
	for g, share := range groups {
		group := group{weight: p.in.config.weight(g)}
		for zone, near := range p.byZone(share) {
			for _, chosen := range p.bySubset(near, most) {
				if len(chosen) > 0 {
					t := &tier{members: chosen, zone: zone}
					t.sequence.shuffle()
					group.tiers = append(group.tiers, t)
				}
			}
		}
		if len(group.tiers) > 0 {
			v.groups = append(v.groups, group)
		}
	}
	return v
}
