package planner

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Drain is the effect of a config's list of endpoints to drain.
type Drain struct {
	// endpoints that get new calls only as a last resort
	Drained map[*endpoint.Endpoint]bool

	// why the list is ignored, and for how many endpoints; "" if it is applied
	Problem string

	Unknown []string // names in the list that no endpoint has
}

// FollowDrain decides which endpoints are drained. away has the fallback
// cluster's endpoints, placed the lanes of endpoints, and held the addresses
// that vanished from etcd. MinHealthyPercent applies to the base or, if all
// endpoints are in lanes, to all of them.
func (c *Config) FollowDrain(
	all, away []*endpoint.Endpoint,
	placed *Placement,
	held map[string]struct{},
) *Drain {
	d := &Drain{Drained: make(map[*endpoint.Endpoint]bool)}
	known := make(map[string]bool)
	for _, e := range slices.Concat(all, away) {
		if c.drained[e.Instance] || c.drained[e.Addr] {
			d.Drained[e] = true
			known[e.Instance] = true
			known[e.Addr] = true
		}
	}

	for _, entry := range c.Drain {
		if !known[entry.Instance] {
			d.Unknown = append(d.Unknown, entry.Instance)
		}
	}

	counted := all
	if slices.ContainsFunc(all, placed.IsBase) {
		counted = slices.DeleteFunc(slices.Clone(all), func(e *endpoint.Endpoint) bool {
			return !placed.IsBase(e)
		})
	}

	here := 0

	left := 0
	for _, e := range counted {
		if _, isHeld := held[e.Addr]; !isHeld {
			here++

			if !d.Drained[e] {
				left++
			}
		}
	}

	if 100*left < int(c.MinHealthyPercent)*here {
		d.Problem = fmt.Sprintf(
			"drain leaves fewer than %d %% of %d endpoints, and is ignored for these",
			c.MinHealthyPercent, here)

		for _, e := range counted {
			delete(d.Drained, e)
		}
	}

	return d
}

// followDrain sets Drain, and reports its problems.
func (p *Plan[E]) followDrain() {
	if len(p.Config.Drain) == 0 {
		return
	}

	p.Drain = p.Config.FollowDrain(p.pointers(p.Endpoints), p.pointers(p.Away), p.Placed,
		p.Held)
	p.reportUnknown(p.Drain.Unknown)

	if p.Drain.Problem != "" {
		p.report("%s", p.Drain.Problem)
	}
}

// undrained separates the endpoints that are drained from the others.
func (p *Plan[E]) undrained(endpoints []E) (live, drained []E) {
	if len(p.Drain.Drained) == 0 {
		return endpoints, nil
	}

	live = make([]E, 0, len(endpoints))
	for i := range endpoints {
		if p.Drain.Drained[p.Of(&endpoints[i])] {
			drained = append(drained, endpoints[i])
		} else {
			live = append(live, endpoints[i])
		}
	}

	return live, drained
}

// maxUnknown bounds the names in a report, in bytes: each connection keeps its
// reports.
const maxUnknown = 4 << 10

// reportUnknown reports names in drain that no endpoint has.
func (p *Plan[E]) reportUnknown(names []string) {
	if len(names) == 0 {
		return
	}

	var quoted []byte
	for n, name := range names {
		if len(quoted) > maxUnknown {
			quoted = fmt.Appendf(quoted, "and %d more, ", len(names)-n)
			break
		}

		quoted = append(strconv.AppendQuote(quoted, name), ", "...)
	}

	p.report("drain names %s: no endpoint of %q has that name",
		quoted[:len(quoted)-len(", ")], p.Service)
}
