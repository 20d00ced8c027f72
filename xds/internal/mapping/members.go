package mapping

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"net/netip"
	"net/url"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// serviceTargets has the targets of the calls of one service.
type serviceTargets struct {
	*mapping
	service *Service
	policy  *Policy
	ring    *serviceconfig.RingHash // nil if another policy picks endpoints
	prefix  string                  // the prefix of the names of the service's clusters
	plan    *planner.Plan[int]      // of endpoints, by their indexes
	base    *set                    // the endpoints in no lane

	// calls in unknown lanes fail, because the route by label is strict
	closed bool

	spare   int      // the limit of fallback endpoints of a cluster
	targets []target // in the order of their routes
}

// set has the endpoints of a lane.
type set struct {
	lane   string  // "" for the base
	strict bool    // calls in the lane do not fall back to the base
	groups []group // by descending share; at least one, which may be empty
}

// isEmpty reports whether the set has no endpoints.
func (s *set) isEmpty() bool {
	return s.groups[0].tiers == nil
}

// group has endpoints that share a part of the calls.
type group struct {
	weight uint32  // its share of the calls
	name   string  // "" without a split
	tiers  [][]int // the endpoints that the client uses, by priority; no tier is empty
}

// targetsOf returns the targets of the calls of a service.
func (m *mapping) targetsOf(s *Service) *serviceTargets {
	t := &serviceTargets{
		mapping: m,
		service: s,
		policy:  s.Policy,
		prefix:  m.Authority,
		ring:    s.Policy.ringHash(),
	}
	if len(m.Services) > 1 {
		t.prefix += "/service=" + url.QueryEscape(s.Name)
	}

	if t.ring != nil && m.client.NoRing {
		t.ring = nil
	}

	t.noteUnsupported()
	t.makePlan(t.policy.etcd)

	if t.base.isEmpty() && len(t.policy.etcd.Drain) > 0 {
		// Only endpoints without an IP address would remain after the drain,
		// and clients cannot call them. So no endpoint is drained.
		undrained := *t.policy.etcd
		undrained.Drain = nil
		t.makePlan(&undrained)
	}

	t.setTargets()

	return t
}

// makePlan sets the plan, as the runtime's clients make it, and the base.
func (t *serviceTargets) makePlan(config *planner.Config) {
	in := &planner.Input[int]{
		Config: config,
		Client: &planner.Client{
			Zone: t.client.Zone,
			Most: maxConnections,
			Seed: seed,
		},
		Held: t.Held,
		Of:   func(i *int) *endpoint.Endpoint { return &t.Endpoints[*i] },
	}
	for i := range t.Endpoints {
		in.Endpoints = append(in.Endpoints, i)
	}

	t.plan = planner.Make(in)
	t.base = t.setOf("", t.plan.Base)

	if t.plan.Live > maxConnections {
		t.lacks("more than %d endpoints: each client uses some of them, chosen by its id",
			maxConnections)
	}
}

// maxConnections limits the endpoints of a service that a client uses. The
// runtime's clients have runtime.Limits, which depends on how many file
// descriptors their process may open. Other processes may often open 1,024, and
// need most of them for other services.
const maxConnections = 200

// seed ranks endpoints for package planner. It differs between processes, so
// [serviceTargets.chosen] ranks the endpoints again, by the client's id.
var seed = maphash.MakeSeed()

// setOf returns the endpoints of a lane that clients can call and that are not
// drained. If l is nil, the lane is empty.
func (t *serviceTargets) setOf(name string, l *planner.Lane) *set {
	s := &set{lane: name, strict: name != "" && t.policy.etcd.Strict(name)}

	var groups []planner.Group
	if l != nil {
		groups = t.plan.Groups(l)
	}

	for _, g := range groups {
		one := group{weight: g.Weight}
		if g.ID != 0 {
			one.name = fmt.Sprintf("%016x", g.ID)
		} else if len(t.policy.etcd.Split) > 0 {
			one.name = "rest"
		}

		for _, tier := range g.Tiers {
			if !tier.Class.IsLive() {
				continue
			}

			var members []int
			for _, m := range tier.Members {
				i := t.plan.All[m]
				if t.addresses[i].IsValid() {
					members = append(members, i)
				}
			}

			if members != nil {
				one.tiers = append(one.tiers, t.chosen(members, tier.Most))
			}
		}

		if len(one.tiers) > 0 {
			s.groups = append(s.groups, one)
		}
	}

	slices.SortStableFunc(s.groups, func(a, b group) int {
		return cmp.Compare(b.weight, a.weight)
	})

	if s.groups == nil {
		s.groups = make([]group, 1)
	}

	return s
}

// lanes returns the lanes that need routes: lanes with endpoints, strict lanes
// and, with a strict label, every lane that a route names. If there are too
// many, it omits those with the last names. It omits only lanes that are as
// strict as an unknown lane, because calls in an omitted lane go where calls in
// an unknown lane go.
func (t *serviceTargets) lanes() []*set {
	names := t.policy.etcd.NamedLanes()
	for l := range t.plan.Lanes() {
		names = append(names, l.Name)
	}

	slices.Sort(names)

	var needed, others []*set
	for _, name := range slices.Compact(names) {
		l := t.plan.Lane(name)
		if l == t.plan.Base {
			l = nil
		}

		s := t.setOf(name, l)
		switch {
		case s.strict != t.closed:
			needed = append(needed, s)
		case t.closed || !s.isEmpty():
			others = append(others, s)
		}
	}

	if limit := max(0, t.maxLanes-len(needed)); len(others) > limit {
		t.lacks("of %d lanes clients do not know the last %d: they receive %d KiB of routes and of clusters",
			len(needed)+len(others), len(others)-limit, maxBytes>>10)
		others = others[:limit]
	}

	t.fewer = t.fewer || len(others) > 0

	return append(needed, others...)
}

const (
	maxSpare  = 50_000 // fallback endpoints, in all clusters of a service
	maxGroups = 16     // of a cluster
)

// tiers returns the endpoints of a group's cluster by priority: first the
// group's own endpoints, then those of the other groups, then those of
// fallback, which may be nil. The others take the calls while no own endpoint
// is reachable: without them the calls would fail (grpc/grpc-go#8383). If
// endpoints have the same address, tiers returns only the first, because
// clients reject duplicates.
func (t *serviceTargets) tiers(s, fallback *set, g int) (tiers [][]int) {
	groups := slices.Concat(s.groups[g:g+1], s.groups[:g], s.groups[g+1:])
	if fallback != nil {
		groups = append(groups, fallback.groups...)
	}

	spare := t.spare

	has := make(map[netip.AddrPort]bool)
	for n, source := range groups[:min(len(groups), maxGroups)] {
		for _, tier := range source.tiers {
			var members []int
			for _, i := range tier {
				if n > 0 && spare == 0 {
					t.lacks("more than %d endpoints that stand in for others: clients do not know the last ones", maxSpare)
					break
				}

				if has[t.addresses[i]] {
					continue
				}

				has[t.addresses[i]] = true
				members = append(members, i)

				if n > 0 {
					spare--
				}
			}

			if members != nil {
				tiers = append(tiers, members)
			}
		}
	}

	return tiers
}

// chosen returns the endpoints of a tier that the client uses: all of them if
// most is 0, and otherwise at most that many. It chooses by rendezvous hashing
// with the client's id. Held endpoints come last, because they may be dead.
func (t *serviceTargets) chosen(members []int, most int) []int {
	if most == 0 {
		return members
	}

	score := make([]uint64, len(t.Endpoints))
	for _, i := range members {
		score[i] = xxhash.Sum64String(t.client.ID+"\x00"+t.Endpoints[i].Instance) >> 1
		if _, held := t.Held[t.Endpoints[i].Addr]; !held {
			score[i] |= 1 << 63
		}
	}

	slices.SortFunc(members, func(a, b int) int {
		return cmp.Compare(score[b], score[a])
	})

	members = members[:min(len(members), most)]
	slices.Sort(members)

	return members
}
