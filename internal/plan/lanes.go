package plan

import (
	"iter"
	"maps"
	"slices"
)

// Lane has the endpoints of a lane, or of the base, which takes the calls without a lane.
type Lane struct {
	Name    string  // "": the base
	Strict  bool    // its calls do not go to the base
	Members []int32 // of Plan.All
	among   int     // how many lanes share the bound on the endpoints that a client uses
}

// Lane returns the lane for calls with this lane's name: the lane or the base. It is nil if the lane is strict and empty.
func (p *Plan[E]) Lane(name string) *Lane {
	switch l := p.lanes[name]; {
	case l != nil:
		return l
	case name != "" && p.Config.Strict(name):
		return nil
	}
	return p.Base
}

// Lanes yields the lanes that endpoints are in, in no order. The base is none of them.
func (p *Plan[E]) Lanes() iter.Seq[*Lane] { return maps.Values(p.lanes) }

// HasLanes reports whether calls may have a lane.
func (p *Plan[E]) HasLanes() bool { return p.Placed != nil }

// makeLanes makes the base and the lanes. addTo has the rules.
func (p *Plan[E]) makeLanes() {
	p.Base = &Lane{among: 1}
	if p.Placed == nil {
		p.Base.Members = p.indexes(0, len(p.All))
		return
	}
	p.Reports = append(p.Reports, p.Placed.Problems...)
	p.lanes = make(map[string]*Lane, len(p.Placed.Made))
	for i := range p.All {
		e := p.Of(&p.All[i])
		if p.Placed.IsBase(e) || p.ClassOf(i) == Left {
			p.Base.Members = append(p.Base.Members, int32(i))
		}
		for _, name := range p.Placed.Of[e] {
			p.addTo(name, i)
		}
	}
	for _, l := range p.lanes {
		l.among = len(p.lanes)
	}
	p.standIn()
}

// addTo adds an endpoint to a lane if the lane takes it. A lane takes an endpoint that has left while it has live ones;
// without live ones, only if it is strict, or if no endpoint is live at all. Only a strict lane takes endpoints of the
// fallback cluster: calls of other lanes reach them by the base. No lane takes drained endpoints.
func (p *Plan[E]) addTo(name string, i int) {
	l, strict := p.lanes[name], p.Config.Strict(name)
	switch class := p.ClassOf(i); {
	case class == Away && !strict, class == Left && l == nil && (p.Live > 0 || strict), class == Drained:
		return
	case l == nil:
		l = &Lane{Name: name, Strict: strict}
		p.lanes[name] = l
	}
	l.Members = append(l.Members, int32(i))
}

// standIn adds the live endpoints to the base if all of them are in lanes. The same holds for the fallback cluster.
func (p *Plan[E]) standIn() {
	begin := 0
	for _, class := range []Class{OtherZones, Away} {
		end := p.ends[class]
		inBase := func(m int32) bool { return begin <= int(m) && int(m) < end }
		if begin < end && !slices.ContainsFunc(p.Base.Members, inBase) {
			p.Base.Members = append(p.Base.Members, p.indexes(begin, end)...)
			if class.IsLive() {
				p.report("every endpoint that may be called is in a lane: calls without a lane go to all of them")
			}
		}
		begin = end
	}
	slices.Sort(p.Base.Members)
}

// indexes returns the indexes of some endpoints of All.
func (p *Plan[E]) indexes(begin, end int) []int32 {
	all := make([]int32, end-begin)
	for i := range all {
		all[i] = int32(begin + i)
	}
	return all
}
