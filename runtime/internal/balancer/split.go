package balancer

import (
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// bySplit returns the members of each group of the split, and last those that match none.
func (p *plan) bySplit(members []int32) [][]int32 {
	c := p.in.config
	if len(c.Split) == 0 {
		return [][]int32{members}
	}
	group, groups := c.groupOf(), make([][]int32, len(c.Split)+1)
	for _, m := range members {
		g := len(c.Split) // of what is the last resort, which no share is for
		if int(m) < p.live {
			g = group(&p.endpoints[m])
		}
		groups[g] = append(groups[g], m)
	}
	return groups
}

// groupOf returns a function that finds the group of an endpoint: the first that it matches, or
// len(c.Split). It is not safe for concurrent use.
func (c *config) groupOf() func(*resolver.Endpoint) int {
	var e *endpoint.Endpoint
	get := func(name string) string { return e.Field(name) }
	return func(ep *resolver.Endpoint) int {
		if e = attr.Endpoint(*ep); e == nil {
			return len(c.Split)
		}
		if i := c.matcher.Match(get); i >= 0 {
			return i
		}
		return len(c.Split)
	}
}

// weight returns the weight of a group: 0 for the last one, the endpoints that match no split.
func (c *config) weight(group int) uint32 {
	switch {
	case len(c.Split) == 0:
		return 1
	case group < len(c.Split):
		return c.Split[group].Weight
	default:
		return 0
	}
}

// reportSplit reports the groups that have no endpoint, and why.
func (p *plan) reportSplit() {
	splits := p.in.config.Split
	if len(splits) == 0 {
		return
	}
	in := p.bySplit(p.base.members)
	var all matches // computed for the first group that is empty
	for i := range splits {
		if len(in[i]) > 0 {
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
		p.report("split[%d] matches %s: the other groups have its share", i, why)
	}
}

// matches says for each group whether it has endpoints before any pass, and whether all of these are drained, or in a lane.
type matches []struct{ exists, drained, laned bool }

func (p *plan) matched() matches {
	c := p.in.config
	all, group, named := make(matches, len(c.Split)+1), c.groupOf(), make(map[string]bool)
	for i := range p.in.endpoints {
		ep := &p.in.endpoints[i]
		m := &all[group(ep)]
		m.drained = c.drains(ep, named) && (!m.exists || m.drained)
		m.laned = !p.placed.isBase(ep) && (!m.exists || m.laned)
		m.exists = true
	}
	return all
}
