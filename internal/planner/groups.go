package planner

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Group is a set of endpoints that share one weight of a split.
type Group struct {
	ID     uint64 // identifies the match of the split, 0 without a split
	Weight uint32
	Tiers  []Tier // in order of preference
}

// Tier has endpoints of a group with equal preference: the policy chooses among
// them.
type Tier struct {
	Class Class

	// indexes of Plan.All; the preferred members first, if the client uses only
	// some
	Members []int32

	Most int // how many of Members the client uses, 0 for all
}

// Groups returns the groups of a lane, except groups without endpoints.
func (p *Plan[E]) Groups(l *Lane) []Group {
	var groups []Group

	shares := p.bySplit(l.Members)
	limit := p.limitOf(l.among * len(shares))
	for i, members := range shares {
		g := Group{}
		g.ID, g.Weight = p.Config.weight(i)

		for class, members := range p.byClass(members) {
			if len(members) > 0 {
				g.Tiers = append(g.Tiers, p.tier(Class(class), members, limit))
			}
		}

		if len(g.Tiers) > 0 {
			groups = append(groups, g)
		}
	}

	return groups
}

// bySplit returns the members of each group of the split, followed by the
// members that match no group.
func (p *Plan[E]) bySplit(members []int32) [][]int32 {
	c := p.Config
	if len(c.Split) == 0 {
		return [][]int32{members}
	}

	groups := make([][]int32, len(c.Split)+1)
	for _, m := range members {
		g := len(c.Split) // endpoints that are not live have no share
		if int(m) < p.Live {
			g = c.Group(p.Of(&p.All[m]))
		}

		groups[g] = append(groups[g], m)
	}

	return groups
}

// Group returns the index of the group of an endpoint: the first that it
// matches, or len(c.Split).
func (c *Config) Group(e *endpoint.Endpoint) int {
	first := len(c.Split)
	c.splits.each(e, func(i int) { first = min(first, i) })

	return first
}

// weight returns the id and the weight of a group. The last group, of endpoints
// that match no split, has neither.
func (c *Config) weight(i int) (id uint64, weight uint32) {
	switch {
	case len(c.Split) == 0:
		return 0, 1
	case i < len(c.Split):
		return c.groups[i], c.Split[i].Weight
	}

	return 0, 0
}

// reportSplit reports the groups that have no endpoint, and why.
func (p *Plan[E]) reportSplit() {
	splits := p.Config.Split
	if len(splits) == 0 {
		return
	}

	members := p.bySplit(p.Base.Members)

	var all []matched // made for the first group that is empty
	for i := range splits {
		if len(members[i]) > 0 || splits[i].Weight == 0 {
			continue
		}

		if all == nil {
			all = p.matched()
		}

		why := "no endpoint"

		switch {
		case all[i].exists && all[i].drained:
			why = "only endpoints that are drained"
		case all[i].exists && all[i].laned:
			why = "only endpoints that are in a lane"
		case all[i].exists:
			why = "no endpoint that is selected for this connection"
		}

		p.report(
			"the group %.400s of the split matches %s: the other groups have its share",
			splits[i].Name(), why)
	}
}

// matched reports whether endpoints match a group, and whether all of them are
// drained, or in a lane.
type matched struct{ exists, drained, laned bool }

func (p *Plan[E]) matched() []matched {
	all := make([]matched, len(p.Config.Split)+1)
	for i := range p.Endpoints {
		e := p.Of(&p.Endpoints[i])
		m := &all[p.Config.Group(e)]
		m.drained = p.Drain.Drained[e] && (!m.exists || m.drained)
		m.laned = !p.Placed.IsBase(e) && (!m.exists || m.laned)
		m.exists = true
	}

	return all
}

// byClass returns the members of each class, in the order of All.
func (p *Plan[E]) byClass(members []int32) (byClass [classes][]int32) {
	for class := range classes {
		n, _ := slices.BinarySearch(members, int32(p.ends[class]))
		byClass[class] = members[:n:n]
		members = members[n:]
	}

	if p.HasZones() {
		live := byClass[OwnZone]
		byClass[OwnZone] = nil
		for _, m := range live {
			class := OwnZone
			if p.Of(&p.All[m]).Zone != p.Client.Zone {
				class = OtherZones
			}

			byClass[class] = append(byClass[class], m)
		}
	}

	return byClass
}

// HasZones reports whether the client prefers its own zone.
func (p *Plan[E]) HasZones() bool {
	return p.Config.PrefersZone() && p.Client.Zone != ""
}

// tier returns the tier of the given members. limit bounds the members that the
// client uses, 0 for all.
func (p *Plan[E]) tier(class Class, members []int32, limit int) Tier {
	if limit == 0 || len(members) <= limit || class == Departed {
		return Tier{Class: class, Members: members}
	}

	return Tier{Class: class, Members: p.Rank(members), Most: limit}
}

// minLimit is the least share of the client's bound that a set gets, however
// many sets there are, unless the bound itself is smaller.
const minLimit = 8

// limitOf returns how many endpoints a client uses of each of several sets, 0
// for all. The limit is the size of the subset. If there are more endpoints
// than the client may use, the limit is also at most an equal part of the
// client's bound for each set: see minLimit.
func (p *Plan[E]) limitOf(sets int) int {
	limit := p.subset()

	if p.tooMany() {
		bound := p.Client.Most
		part := max(bound/max(1, sets), min(bound, minLimit))
		if limit == 0 || part < limit {
			limit = part
		}
	}

	return limit
}

// subset returns how many endpoints of each set to use, the smaller of the
// client's and the config's number, or 0 for all.
func (p *Plan[E]) subset() int {
	client := max(0, p.Client.Subset)
	config := int(p.Config.Subset)
	if client == 0 || config == 0 {
		return max(client, config)
	}

	return min(client, config)
}

// tooMany reports whether a class has more endpoints than the client may use.
func (p *Plan[E]) tooMany() bool {
	return p.Client.Most > 0 &&
		max(p.Live, p.ends[Away]-p.Live, len(p.All)-p.ends[Departed]) > p.Client.Most
}

// Chooses reports whether the client may use only some of the live endpoints.
func (p *Plan[E]) Chooses() bool {
	return p.subset() > 0 || p.tooMany()
}

// Rank ranks members by rendezvous hashing, the highest first. The ranking
// differs between clients. Adding or removing an endpoint does not change the
// order of the others.
func (p *Plan[E]) Rank(members []int32) []int32 {
	type ranked struct {
		member int32
		score  uint64
	}

	ranking := make([]ranked, len(members))
	for i, m := range members {
		ranking[i] = ranked{m, maphash.String(p.Client.Seed, p.Of(&p.All[m]).Instance)}
	}

	slices.SortFunc(ranking, func(a, b ranked) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.member, b.member))
	})

	order := make([]int32, len(members))
	for i, r := range ranking {
		order[i] = r.member
	}

	return order
}

// Choose returns the live endpoints or, if a limit applies, the first of their
// ranking, whether or not they are reachable.
func (p *Plan[E]) Choose() []E {
	limit := p.limitOf(1)
	if limit == 0 || limit >= p.Live {
		return p.All[:p.Live]
	}

	chosen := p.Rank(p.indexes(0, p.Live))[:limit]
	slices.Sort(chosen)

	endpoints := make([]E, len(chosen))
	for i, m := range chosen {
		endpoints[i] = p.All[m]
	}

	return endpoints
}
