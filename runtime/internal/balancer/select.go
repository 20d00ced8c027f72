package balancer

import (
	"cmp"
	"hash/maphash"
	"slices"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Select returns the endpoints for a policy that is not ours: of those that the connection's selector
// selects, the connection's subset. If some of the subset are held, live endpoints are added, because
// such a policy has no second tier to fall back to. Without a selector and a subset, it returns
// s.Endpoints itself.
func Select(client *attr.Client, s *attr.State) []resolver.Endpoint {
	endpoints := selected(s.Endpoints, client)
	sets := subsets(endpoints, client.Seed, bounds{client.Subset, client.Most}, nil, s.Held)
	if len(sets) == 1 {
		return sets[0]
	}
	chosen := make(map[string]bool)
	for _, set := range sets {
		for _, ep := range set {
			chosen[address(ep)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(endpoints), func(ep resolver.Endpoint) bool { return !chosen[address(ep)] })
}

// selected returns the endpoints that a connection's selector selects.
func selected(endpoints []resolver.Endpoint, client *attr.Client) []resolver.Endpoint {
	if client.Selector == nil {
		return endpoints
	}
	left := make([]resolver.Endpoint, 0, len(endpoints))
	for _, ep := range endpoints {
		if isSelected(ep, client) {
			left = append(left, ep)
		}
	}
	return left
}

// isSelected reports whether a connection's selector, if it has one, selects an endpoint.
func isSelected(ep resolver.Endpoint, client *attr.Client) bool {
	e := attr.Endpoint(ep)
	return client.Selector == nil || e == nil || client.Selector(e)
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

// subsetOf returns how many endpoints of each set are asked for: the smaller of what the connection and the config
// say, 0 if neither says anything.
func (in *input) subsetOf() int {
	of, all := max(0, in.client.Subset), int(in.config.Subset)
	if of == 0 || all == 0 {
		return max(of, all)
	}
	return min(of, all)
}

// subsets returns the endpoints of a set that a connection uses: those that rank highest for its seed, within bounds.
// A held endpoint keeps its rank but may be dead: if one is chosen while live ones are left out, a second set has the
// live ones that rank highest. known, which may be nil, returns the addresses that are in use: these come first where
// there are too many.
func subsets(endpoints []resolver.Endpoint, seed maphash.Seed, of bounds, known func() map[string]struct{}, held map[string]struct{}) [][]resolver.Endpoint {
	n, sticky := of.subset, false
	if of.most > 0 && (n < 1 || n > of.most) {
		n, sticky = of.most, true
	}
	if n < 1 || len(endpoints) <= n {
		return [][]resolver.Endpoint{endpoints}
	}
	ranking := rank(endpoints, seed)
	if sticky && known != nil {
		known := known()
		slices.SortStableFunc(ranking, func(a, b ranked) int {
			return cmp.Compare(unknown(known, endpoints[a.index]), unknown(known, endpoints[b.index]))
		})
	}
	sets := [][]resolver.Endpoint{choose(endpoints, ranking[:n])}
	isHeld := func(r ranked) bool { _, ok := held[address(endpoints[r.index])]; return ok }
	if !slices.ContainsFunc(ranking[:n], isHeld) {
		return sets
	}
	hasLive := slices.ContainsFunc(ranking[n:], func(r ranked) bool { return !isHeld(r) })
	if !hasLive {
		return sets
	}
	live := slices.DeleteFunc(ranking, isHeld)
	return append(sets, choose(endpoints, live[:min(n, len(live))]))
}

// unknown returns 0 for an endpoint that is known, and 1 for another.
func unknown(known map[string]struct{}, ep resolver.Endpoint) int {
	if _, ok := known[address(ep)]; ok {
		return 0
	}
	return 1
}

// ranked is the rank of one endpoint of a set.
type ranked struct {
	index int
	score uint64
}

// rank ranks the endpoints of a set by rendezvous hashing, the highest first. It differs between clients, and
// an endpoint that comes or goes changes one place at most.
func rank(endpoints []resolver.Endpoint, seed maphash.Seed) []ranked {
	ranking := make([]ranked, len(endpoints))
	for i, ep := range endpoints {
		ranking[i] = ranked{i, maphash.String(seed, instance(ep))}
	}
	slices.SortFunc(ranking, func(a, b ranked) int { return cmp.Compare(b.score, a.score) })
	return ranking
}

// choose returns the chosen endpoints of a set, in the order of the set.
func choose(endpoints []resolver.Endpoint, chosen []ranked) []resolver.Endpoint {
	chosen = slices.Clone(chosen)
	slices.SortFunc(chosen, func(a, b ranked) int { return a.index - b.index })
	set := make([]resolver.Endpoint, len(chosen))
	for i, r := range chosen {
		set[i] = endpoints[r.index]
	}
	return set
}

// address returns the address of an endpoint, "" if it has none.
func address(ep resolver.Endpoint) string {
	if len(ep.Addresses) == 0 {
		return ""
	}
	return ep.Addresses[0].Addr
}

// instance returns the instance id of an endpoint, or its address if it was not read from etcd.
func instance(ep resolver.Endpoint) string {
	if e := attr.Endpoint(ep); e != nil {
		return e.Instance
	}
	return address(ep)
}
