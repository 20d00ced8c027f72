package balancer

import (
	"maps"

	"google.golang.org/grpc/balancer"
)

// maxRoutes bounds how many methods of a lane have routes that are kept. A caller has few, save one that passes on the
// calls of others.
const maxRoutes = 1024

// route returns the views of a call: that of its lane and method and, where it may go there as well, the base's.
func (p *plan) route(info *balancer.PickInfo, w *wishes) (*route, error) {
	l := p.base
	if p.placed != nil {
		if name := laneOf(info.Ctx, w, p.in.config.LaneHeader); name != "" {
			if in := p.lanes[name]; in != nil {
				l = in
			} else if p.placed.config.Strict(name) {
				return nil, p.emptyLane(name)
			}
		}
	}
	if !p.differ {
		if r := l.route.Load(); r != nil {
			return r, nil
		}
		return p.find(l, ""), nil
	}
	if r := (*l.routes.Load())[info.FullMethodName]; r != nil {
		return r, nil
	}
	return p.find(l, info.FullMethodName), nil
}

// find makes a route, and the views that it needs. method is "" where all endpoints serve the same.
func (p *plan) find(l *lane, method string) *route {
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
	if !p.differ {
		l.route.Store(r)
	}
	if len(p.views) > made && (p.traits.single || p.chooses()) && p.asked != nil {
		p.asked()
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
	in, elsewhere := serving(method, l.classes.texts, others)
	switch {
	case elsewhere:
		return nil
	case len(l.views) > maxClasses && l.views[in] == nil:
		in = everyClass
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
	if in != everyClass {
		members = nil
		for i, m := range l.members {
			if in&(1<<l.classes.of[i]) != 0 {
				members = append(members, m)
			}
		}
	}
	first, _ := p.in.config.way.(pickFirst)
	v := &view{plan: p, lane: l, method: method}
	groups := p.bySplit(members)
	most := bounds{p.in.subsetOf(), mostOf(p.in.client.Most, l.among*len(groups))}
	for g, share := range groups {
		group := group{weight: p.in.config.weight(g)}
		for zone, near := range p.byZone(share) {
			for _, chosen := range p.bySubset(near, most) {
				if len(chosen) > 0 {
					if first.shuffled {
						chosen = p.rank(chosen)
					}
					t := &tier{members: chosen, zone: zone, rings: &p.rings}
					t.hashed = func() ([]string, []uint64) { return p.hashed(t) }
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

// hashed returns what a ring is made of: the members' instance ids, of which two that are alike are told apart by their
// addresses, and their weights.
func (p *plan) hashed(t *tier) (names []string, weights []uint64) {
	names, weights = make([]string, len(t.members)), make([]uint64, len(t.members))
	for i, m := range t.members {
		ep := &p.left[m]
		names[i], weights[i] = instance(ep), weightOf(ep)
		if m > 0 && instance(&p.left[m-1]) == names[i] {
			names[i] += " " + address(ep)
		}
	}
	return names, weights
}
