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

// serviceTargets holds the targets of the calls of one service.
type serviceTargets struct {
	*mapping
	service *Service
	policy  *Policy
	ring    *serviceconfig.RingHash // nil if another policy picks endpoints
	prefix  string                  // the prefix of the names of the service's clusters
	made    *planner.Plan[int]      // of endpoints, by their indexes
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
	p := &serviceTargets{
		mapping: m,
		service: s,
		policy:  s.Policy,
		prefix:  m.Authority,
		ring:    s.Policy.ringHash(),
	}
	if len(m.Services) > 1 {
		p.prefix += "/service=" + url.QueryEscape(s.Name)
	}

	if p.ring != nil && m.client.NoRing {
		p.ring = nil
	}

	p.noteUnsupported()
	p.makePlan(p.policy.etcd)

	if p.base.isEmpty() && len(p.policy.etcd.Drain) > 0 {
		all := *p.policy.etcd

		// after the drain, only endpoints without an IP address would remain,
		// which clients cannot call
		all.Drain = nil
		p.makePlan(&all)
	}

	p.setTargets()

	return p
}

// makePlan sets p.made to the plan that the runtime's clients would make.
func (p *serviceTargets) makePlan(config *planner.Config) {
	in := &planner.Input[int]{
		Config: config,
		Client: &planner.Client{Zone: p.client.Zone, Most: maxConnections, Seed: seed},
		Held:   p.Held,
		Of:     func(i *int) *endpoint.Endpoint { return &p.Endpoints[*i] },
	}
	for i := range p.Endpoints {
		in.Endpoints = append(in.Endpoints, i)
	}

	p.made = planner.Make(in)
	p.base = p.setOf("", p.made.Base)

	if p.made.Live > maxConnections {
		p.lacks(
			"more than %d endpoints: each client uses some of them, chosen by its id",
			maxConnections)
	}
}

// maxConnections limits the endpoints that a client uses of a service, as
// runtime.Limits does for the runtime's clients, which know how many file
// descriptors their process may open. Others often have 1,024 of them, and need
// most for other services.
const maxConnections = 200

// seed ranks endpoints for package plan. It differs between processes, so
// [plan.chosen] ranks them again, by the client's id.
var seed = maphash.MakeSeed()

// setOf returns the endpoints of a lane that clients can call and that are not
// drained. A nil l is an empty lane.
func (p *serviceTargets) setOf(name string, l *planner.Lane) *set {
	s := &set{lane: name, strict: name != "" && p.policy.etcd.Strict(name)}

	var groups []planner.Group
	if l != nil {
		groups = p.made.Groups(l)
	}

	for _, g := range groups {
		one := group{weight: g.Weight}
		if g.ID != 0 {
			one.name = fmt.Sprintf("%016x", g.ID)
		} else if len(p.policy.etcd.Split) > 0 {
			one.name = "rest"
		}

		for _, t := range g.Tiers {
			var members []int
			for _, m := range t.Members {
				if i := p.made.All[m]; p.addresses[i].IsValid() && t.Class.IsLive() {
					members = append(members, i)
				}
			}

			if len(members) > 0 {
				one.tiers = append(one.tiers, p.chosen(members, t.Most))
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
// many, it omits the last lanes whose calls go where calls in an unknown lane
// go.
func (p *serviceTargets) lanes() []*set {
	names := p.policy.etcd.NamedLanes()
	for l := range p.made.Lanes() {
		names = append(names, l.Name)
	}

	slices.Sort(names)

	var needed, others []*set
	for _, name := range slices.Compact(names) {
		l := p.made.Lane(name)
		if l == p.made.Base {
			l = nil
		}

		switch s := p.setOf(name, l); {
		case s.strict != p.closed:
			needed = append(needed, s)
		case p.closed || !s.isEmpty():
			others = append(others, s)
		}
	}

	if limit := max(0, p.maxLanes-len(needed)); len(others) > limit {
		p.lacks("of %d lanes clients do not know the last %d: they receive %d KiB of routes and of clusters",
			len(needed)+len(others), len(others)-limit, maxBytes>>10)
		others = others[:limit]
	}

	p.fewer = p.fewer || len(others) > 0

	return append(needed, others...)
}

const (
	maxSpare  = 50_000 // fallback endpoints, in all clusters of a service
	maxGroups = 16     // of a cluster
)

// tiers returns the endpoints of a group's cluster by priority. First come its
// own endpoints. The endpoints of the other groups and of fallback, which may
// be nil, take the calls while no own endpoint is reachable: without them the
// calls would fail, see grpc/grpc-go#8383. Of endpoints with one address, only
// the first is used, because clients reject duplicates.
func (p *serviceTargets) tiers(s, fallback *set, g int) (tiers [][]int) {
	groups := slices.Concat(s.groups[g:g+1], s.groups[:g], s.groups[g+1:])
	if fallback != nil {
		groups = append(groups, fallback.groups...)
	}

	left := p.spare

	has := make(map[netip.AddrPort]bool)
	for n, source := range groups[:min(len(groups), maxGroups)] {
		for _, tier := range source.tiers {
			var members []int
			for _, i := range tier {
				if n > 0 && left == 0 {
					p.lacks("more than %d endpoints that stand in for others: clients do not know the last ones", maxSpare)
					break
				}

				if has[p.addresses[i]] {
					continue
				}

				has[p.addresses[i]] = true
				members = append(members, i)

				if n > 0 {
					left--
				}
			}

			if members != nil {
				tiers = append(tiers, members)
			}
		}
	}

	return tiers
}

// chosen returns the endpoints of a tier that the client uses, at most the
// given number unless that is 0, by rendezvous hashing with the client's id. It
// picks held endpoints last, because they may be dead.
func (p *serviceTargets) chosen(members []int, most int) []int {
	if most == 0 {
		return members
	}

	score := make([]uint64, len(p.Endpoints))
	for _, i := range members {
		score[i] = xxhash.Sum64String(p.client.ID+"\x00"+p.Endpoints[i].Instance) >> 1
		if _, held := p.Held[p.Endpoints[i].Addr]; !held {
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
