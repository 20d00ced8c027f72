package balancer

import (
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// bySplit returns the endpoints of each group of the split, and last those that match none.
func (p *plan) bySplit(endpoints []resolver.Endpoint) [][]resolver.Endpoint {
	c := p.in.config
	if len(c.Split) == 0 {
		return [][]resolver.Endpoint{endpoints}
	}
	group := c.groupOf()
	groups := make([]int, len(endpoints))
	sizes := make([]int, len(c.Split)+1)
	for i, ep := range endpoints {
		groups[i] = group(ep)
		sizes[groups[i]]++
	}
	sets := make([][]resolver.Endpoint, len(sizes))
	for i, size := range sizes {
		sets[i] = make([]resolver.Endpoint, 0, size)
	}
	for i, ep := range endpoints {
		sets[groups[i]] = append(sets[groups[i]], ep)
	}
	return sets
}

// groupOf returns a function that finds the group of an endpoint: the first that it matches, or
// len(c.Split). It is not safe for concurrent use.
func (c *config) groupOf() func(resolver.Endpoint) int {
	var e *endpoint.Endpoint
	get := func(name string) string { return e.Field(name) }
	return func(ep resolver.Endpoint) int {
		if e = attr.Endpoint(ep); e == nil {
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
	if len(splits) == 0 || len(p.views) == 0 {
		return
	}
	has := make([]bool, len(splits)+1)
	for _, g := range p.views[0].groups {
		has[g.tiers[0].key.group] = true
	}
	var exists, drained, laned []bool // computed for the first group that is empty
	for i := range splits {
		if has[i] {
			continue
		}
		if exists == nil {
			exists, drained, laned = p.matched()
		}
		why := "no endpoint"
		switch {
		case exists[i] && drained[i]:
			why = "only endpoints that are drained"
		case exists[i] && laned[i]:
			why = "only endpoints that are in a lane"
		case exists[i]:
			why = "no endpoint that is selected for this connection"
		}
		p.report("split[%d] matches %s: the other groups have its share", i, why)
	}
}

// matched returns for each group whether it has endpoints before any pass, and whether all of these are
// drained, or all in a lane.
func (p *plan) matched() (exists, drained, laned []bool) {
	c := p.in.config
	n := len(c.Split) + 1
	exists, drained, laned = make([]bool, n), make([]bool, n), make([]bool, n)
	group := c.groupOf()
	named := make(map[string]bool)
	for _, ep := range p.in.endpoints {
		i, isDrained := group(ep), c.drains(ep, named)
		drained[i] = isDrained && (!exists[i] || drained[i])
		laned[i] = !p.lanes.isBase(ep) && (!exists[i] || laned[i])
		exists[i] = true
	}
	return exists, drained, laned
}
