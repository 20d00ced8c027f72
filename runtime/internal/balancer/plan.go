package balancer

import (
	"fmt"
	"iter"
	"slices"
	"strconv"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// plan says which endpoints a call may go to. A call takes the view that its method routes to, in
// it a group by weight, in that the first tier that is usable, and in that what the leaf's policy
// picks.
type plan struct {
	views   []view // the first is that of all methods without a route
	routes  routes
	reports []string // what is odd, for people
}

type view struct{ groups []group }

type group struct {
	weight uint32
	tiers  []leafPlan // in the order of preference
}

// leaves yields the leaves of all views.
func (p *plan) leaves() iter.Seq[leafPlan] {
	return func(yield func(leafPlan) bool) {
		for _, v := range p.views {
			for _, g := range v.groups {
				for _, t := range g.tiers {
					if !yield(t) {
						return
					}
				}
			}
		}
	}
}

// leafPlan is a set of endpoints that one policy below picks from. Its key says what it is, so that
// the policy goes on when the set changes.
type leafPlan struct {
	key       string
	endpoints []resolver.Endpoint
}

// makePlan shares endpoints out. Without options it is one leaf with the very slice it was given.
func makePlan(c *config, zone string, endpoints []resolver.Endpoint) plan {
	var p plan
	endpoints = p.drain(c, endpoints)
	if len(c.Split) > 0 {
		p.reportUnmatched(c, endpoints)
	}
	p.views = []view{makeView(c, zone, "", endpoints)}
	var subsets [][]resolver.Endpoint
	p.routes, subsets = makeRoutes(endpoints)
	for i, subset := range subsets {
		p.views = append(p.views, makeView(c, zone, "methods "+strconv.Itoa(i)+": ", subset))
	}
	return p
}

// drain leaves out what is drained, unless that is everything.
func (p *plan) drain(c *config, endpoints []resolver.Endpoint) []resolver.Endpoint {
	if len(c.Drain) == 0 {
		return endpoints
	}
	left := slices.DeleteFunc(slices.Clone(endpoints), func(ep resolver.Endpoint) bool {
		e := attr.Endpoint(ep)
		return e != nil && (slices.Contains(c.Drain, e.Instance) || slices.Contains(c.Drain, e.Addr))
	})
	if len(left) == 0 && len(endpoints) > 0 {
		p.reports = append(p.reports, fmt.Sprintf("drain names all %d endpoints and is ignored", len(endpoints)))
		return endpoints
	}
	return left
}

func (p *plan) reportUnmatched(c *config, endpoints []resolver.Endpoint) {
	if len(endpoints) == 0 {
		return
	}
	for i, s := range c.Split {
		if !slices.ContainsFunc(endpoints, func(ep resolver.Endpoint) bool { return s.matches(attr.Endpoint(ep)) }) {
			p.reports = append(p.reports, fmt.Sprintf("split[%d] matches no endpoint: the other groups have its share", i))
		}
	}
}

func makeView(c *config, zone, key string, endpoints []resolver.Endpoint) view {
	if len(c.Split) == 0 {
		return view{[]group{makeGroup(c, zone, key, 1, endpoints)}}
	}
	sets := make([][]resolver.Endpoint, len(c.Split)+1) // the last: those that match none
	for _, ep := range endpoints {
		e := attr.Endpoint(ep)
		i := slices.IndexFunc(c.Split, func(s splitConfig) bool { return s.matches(e) })
		if i < 0 {
			i = len(c.Split)
		}
		sets[i] = append(sets[i], ep)
	}
	var v view
	for i, set := range sets {
		if len(set) == 0 {
			continue
		}
		weight, name := uint32(0), "rest"
		if i < len(c.Split) {
			weight, name = c.Split[i].Weight, fmt.Sprint(c.Split[i].Match)
		}
		v.groups = append(v.groups, makeGroup(c, zone, key+name+" ", weight, set))
	}
	return v
}

func makeGroup(c *config, zone, key string, weight uint32, endpoints []resolver.Endpoint) group {
	if !c.PreferZone || zone == "" {
		return group{weight, []leafPlan{{key + "all", endpoints}}}
	}
	var own, others []resolver.Endpoint
	for _, ep := range endpoints {
		if e := attr.Endpoint(ep); e != nil && e.Zone == zone {
			own = append(own, ep)
		} else {
			others = append(others, ep)
		}
	}
	g := group{weight: weight}
	if len(own) > 0 {
		g.tiers = append(g.tiers, leafPlan{key + "own zone", own})
	}
	if len(others) > 0 || len(own) == 0 {
		g.tiers = append(g.tiers, leafPlan{key + "other zones", others})
	}
	return g
}

func (s *splitConfig) matches(e *endpoint.Endpoint) bool {
	if e == nil {
		return false
	}
	for name, want := range s.Match {
		var got string
		switch name {
		case "version":
			got = e.Version
		case "zone":
			got = e.Zone
		case "instance":
			got = e.Instance
		case "addr":
			got = e.Addr
		default:
			got = e.Metadata[name]
		}
		if got != want {
			return false
		}
	}
	return true
}
