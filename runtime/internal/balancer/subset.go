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
	p := &plan{in: &input{client: client, held: s.Held}}
	p.divideByPart(selected(s.Endpoints, client), nil, nil, nil)
	return p.choose(client.Subset)
}

// choose returns most of the live endpoints; 0: all. It is for callers without connections. Held endpoints come on top of most, for
// they may be dead.
func (p *plan) choose(most int) []resolver.Endpoint {
	if most < 1 || most >= p.live {
		return p.endpoints[:p.live]
	}
	chosen := prefix(p.rank(p.all()[:p.live]), most, func(m int32) bool { return !p.in.isHeld(&p.endpoints[m]) })
	endpoints := make([]resolver.Endpoint, len(chosen))
	for i, m := range inOrder(chosen) {
		endpoints[i] = p.endpoints[m]
	}
	return endpoints
}

// prefix returns the shortest prefix of a ranking in which counts holds for n members. It calls counts once a member, in order.
func prefix(ranking []int32, n int, counts func(m int32) bool) []int32 {
	for i, m := range ranking {
		if n == 0 {
			return ranking[:i:i]
		}
		if counts(m) {
			n--
		}
	}
	return ranking[:len(ranking):len(ranking)]
}

// all returns the indexes of all endpoints of the plan.
func (p *plan) all() []int32 {
	all := make([]int32, len(p.endpoints))
	for i := range all {
		all[i] = int32(i)
	}
	return all
}

// minMost is how many endpoints a set may have at least, however many sets there are.
const minMost = 8

// mostOf returns how many endpoints of each of some sets a connection uses; 0: all. It is the smaller of the subset's size and, in
// a large fleet, the set's part of the limit, which is at least minMost.
func (p *plan) mostOf(sets int) int {
	most := p.in.subsetOf()
	if p.tooMany() {
		limit := p.in.client.Most
		if part := max(limit/max(1, sets), min(limit, minMost)); most == 0 || part < most {
			most = part
		}
	}
	return most
}

// makeTier returns the tier of some members, of which the connection uses most; 0: all. It prefers those that rank highest for
// its seed. In a large fleet, ready ones come first.
func (p *plan) makeTier(class class, members []int32, most int) *tier {
	t := &tier{class: class}
	if most == 0 || len(members) <= most || class > away {
		if p.traits.Shuffles {
			members = p.rank(members)
		}
		t.uses(p, members)
		return t
	}
	t.ranking, t.most = p.rank(members), most
	if most != p.in.subsetOf() && p.conns != nil {
		isReady := func(m int32) int {
			if p.conns[m].is(ready) {
				return 0
			}
			return 1
		}
		slices.SortStableFunc(t.ranking, func(a, b int32) int { return cmp.Compare(isReady(a), isReady(b)) })
	}
	t.uses(p, t.ranking[:most])
	return t
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

// inOrder returns members in the order of the plan.
func inOrder(members []int32) []int32 {
	members = slices.Clone(members)
	slices.Sort(members)
	return members
}

// chooses reports whether a connection may use only some of the live endpoints.
func (p *plan) chooses() bool {
	return p.in.subsetOf() > 0 || p.tooMany()
}

// tooMany reports whether a cluster has more endpoints than a connection may use.
func (p *plan) tooMany() bool {
	return p.in.client.Most > 0 && max(p.live, p.ends[away]-p.live) > p.in.client.Most
}
