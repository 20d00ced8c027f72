package balancer

import (
	"cmp"
	"hash/maphash"
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Select returns the endpoints that a connection's selector and subset leave. If some of the subset are held, live
// endpoints are added. Without a selector and a subset, it returns s.Endpoints itself.
func Select(client *attr.Client, s *attr.State) []resolver.Endpoint {
	p := &plan{in: &input{client: client, held: s.Held}, endpoints: selected(s.Endpoints, client)}
	return p.endpointsOf(p.bySubset(p.all(), bounds{subset: client.Subset, most: client.Most}))
}

// all returns the indexes of all endpoints that are left.
func (p *plan) all() []int32 {
	all := make([]int32, len(p.endpoints))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// endpointsOf returns the endpoints of some sets, in their order.
func (p *plan) endpointsOf(sets [][]int32) []resolver.Endpoint {
	if len(sets) == 1 && len(sets[0]) == len(p.endpoints) {
		return p.endpoints
	}
	members := slices.Concat(sets...)
	slices.Sort(members)
	members = slices.Compact(members)
	endpoints := make([]resolver.Endpoint, len(members))
	for i, m := range members {
		endpoints[i] = p.endpoints[m]
	}
	return endpoints
}

// minMost is how many endpoints a set may have at least, however many sets there are.
const minMost = 8

// mostOf returns how many endpoints one of several sets may have if all of them may have most, 0 if there is no
// bound. Each may have a few.
func mostOf(most, sets int) int {
	if most == 0 {
		return 0
	}
	return max(most/max(1, sets), min(most, minMost))
}

// bounds say how many endpoints of a set a connection uses.
type bounds struct {
	subset int // as many as were asked for; below 1: all
	most   int // as many as it may; 0: any number
}

// bySubset returns the members that a connection uses: those that rank highest for its seed, within bounds. A held endpoint
// keeps its rank but may be dead: if one is chosen while live ones are left out, a second set has the live ones that rank
// highest. Where there are too many, those that are in use come first.
func (p *plan) bySubset(members []int32, of bounds) [][]int32 {
	n, sticky := of.subset, false
	if of.most > 0 && (n < 1 || n > of.most) {
		n, sticky = of.most, true
	}
	if n < 1 || len(members) <= n {
		return [][]int32{members}
	}
	ranking := p.rank(members)
	if sticky && p.conns != nil {
		slices.SortStableFunc(ranking, func(a, b int32) int { return cmp.Compare(p.unused(a), p.unused(b)) })
	}
	isHeld := func(m int32) bool { return p.in.isHeld(&p.endpoints[m]) }
	isLive := func(m int32) bool { return !isHeld(m) }
	first := inOrder(ranking[:n])
	if !slices.ContainsFunc(first, isHeld) || !slices.ContainsFunc(ranking[n:], isLive) {
		return [][]int32{first}
	}
	live := slices.DeleteFunc(ranking, isHeld)
	return [][]int32{first, inOrder(live[:min(n, len(live))])}
}

// unused returns 0 for an endpoint that is connected to, or was tried, and 1 for another.
func (p *plan) unused(m int32) int {
	if p.conns[m].current.Load() != untried {
		return 0
	}
	return 1
}

// rank ranks members by rendezvous hashing, the highest first. It differs between clients, and an endpoint that comes or
// goes changes one place at most.
func (p *plan) rank(members []int32) []int32 {
	type ranked struct {
		member int32
		score  uint64
	}
	ranking := make([]ranked, len(members))
	for i, m := range members {
		ranking[i] = ranked{m, maphash.String(p.in.client.Seed, instance(&p.endpoints[m]))}
	}
	slices.SortStableFunc(ranking, func(a, b ranked) int { return cmp.Compare(b.score, a.score) })
	order := make([]int32, len(members))
	for i, r := range ranking {
		order[i] = r.member
	}
	return order
}

// inOrder returns members as they are ordered in the plan.
func inOrder(members []int32) []int32 {
	members = slices.Clone(members)
	slices.Sort(members)
	return members
}

// chooses reports whether a connection may not use all endpoints that are left.
func (p *plan) chooses() bool {
	return p.in.subsetOf() > 0 || p.tooMany()
}

// tooMany reports whether more endpoints are left than a connection may use.
func (p *plan) tooMany() bool { return p.in.client.Most > 0 && len(p.endpoints) > p.in.client.Most }
