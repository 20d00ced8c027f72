package plan

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Drain is the effect of a config's list of endpoints to drain. Clients ignore the list, for all
// endpoints or for the base, if it leaves no endpoint to call, or too few.
type Drain struct {
	Drained map[*endpoint.Endpoint]bool // they get no new calls
	Ignored DrainFault
	Kept    int      // the number of endpoints for which the list is ignored
	Unknown []string // names in the list that no endpoint has
	least   int      // MinHealthyPercent
	held    map[string]struct{}
}

// DrainFault is the reason to ignore a list of endpoints to drain, 0 if the list is applied.
type DrainFault int

// These are the reasons.
const (
	DrainNamesAll      DrainFault = iota + 1 // the list leaves no endpoint
	DrainLeavesHeld                          // the list leaves only endpoints that vanished from etcd, which may be dead
	DrainNamesBase                           // the list leaves no endpoint of the base, or only ones that vanished from etcd
	DrainLeavesFew                           // the list leaves less than MinHealthyPercent of the endpoints in etcd
	DrainLeavesFewBase                       // the list leaves less than MinHealthyPercent of the base
)

// Problem returns the reason as a text, "" if the list is applied.
func (d *Drain) Problem() string {
	switch d.Ignored {
	case DrainNamesAll:
		if d.Kept == 1 {
			return "drain names the only endpoint and is ignored"
		}
		return fmt.Sprintf("drain names all %d endpoints and is ignored", d.Kept)
	case DrainLeavesHeld:
		return "drain leaves only endpoints that have vanished from etcd, and is ignored until they are back"
	case DrainNamesBase:
		return fmt.Sprintf("drain leaves no endpoint that is in no lane, and is ignored for these %d", d.Kept)
	case DrainLeavesFew:
		return fmt.Sprintf("drain leaves fewer than %d %% of the %d endpoints, and is ignored", d.least, d.Kept)
	case DrainLeavesFewBase:
		return fmt.Sprintf("drain leaves fewer than %d %% of the %d endpoints that are in no lane, and is ignored for these", d.least, d.Kept)
	}
	return ""
}

// FollowDrain decides which endpoints are drained. placed has the endpoints in lanes. selects reports whether a client
// may call an endpoint of the base, and is nil if it may call all. held has the addresses that vanished from etcd.
func (c *Config) FollowDrain(all []*endpoint.Endpoint, placed *Placement, selects func(*endpoint.Endpoint) bool, held map[string]struct{}) *Drain {
	d := &Drain{Drained: make(map[*endpoint.Endpoint]bool), least: int(c.MinHealthyPercent), held: held}
	var base []*endpoint.Endpoint
	known := make(map[string]bool)
	for _, e := range all {
		if c.drains(e) {
			d.Drained[e], known[e.Instance], known[e.Addr] = true, true, true
		}
		if placed.IsBase(e) {
			base = append(base, e)
		}
	}
	d.Unknown = slices.DeleteFunc(slices.Clone(c.Drain), func(name string) bool { return known[name] })
	divided := 0 < len(base) && len(base) < len(all) // otherwise calls without a lane go to every endpoint
	if fault := d.fault(all); fault != 0 && !(divided && fault == DrainLeavesFew) {
		clear(d.Drained)
		d.Ignored, d.Kept = fault, len(all)
		return d
	}
	if fault, concerned := d.baseFault(base, selects); fault != 0 {
		d.Ignored, d.Kept = fault, len(concerned)
		maps.DeleteFunc(d.Drained, func(e *endpoint.Endpoint, _ bool) bool { return placed.IsBase(e) })
	}
	return d
}

// baseFault returns the reason to ignore the list for the base, and the endpoints concerned: all of
// the base, or those that the client may call. A percentage counts all endpoints of the base.
func (d *Drain) baseFault(base []*endpoint.Endpoint, selects func(*endpoint.Endpoint) bool) (DrainFault, []*endpoint.Endpoint) {
	fault := d.fault(base)
	if selects != nil {
		called := slices.DeleteFunc(slices.Clone(base), func(e *endpoint.Endpoint) bool { return !selects(e) })
		if f := d.fault(called); f != 0 && f != DrainLeavesFew {
			fault, base = f, called
		}
	}
	switch fault {
	case 0:
		return 0, nil
	case DrainLeavesFew:
		return DrainLeavesFewBase, base
	}
	return DrainNamesBase, base
}

// drains reports whether the config names an endpoint in drain.
func (c *Config) drains(e *endpoint.Endpoint) bool {
	_, byInstance := c.drained[e.Instance]
	_, byAddr := c.drained[e.Addr]
	return byInstance || byAddr
}

// fault returns the reason to ignore the list for a set of endpoints.
func (d *Drain) fault(set []*endpoint.Endpoint) DrainFault {
	left, here, hereLeft := 0, 0, 0
	for _, e := range set {
		drained := d.Drained[e]
		if !drained {
			left++
		}
		if _, held := d.held[e.Addr]; !held {
			here++
			if !drained {
				hereLeft++
			}
		}
	}
	switch {
	case len(set) > 0 && left == 0:
		return DrainNamesAll
	case here > 0 && hereLeft == 0:
		return DrainLeavesHeld
	case 100*hereLeft < d.least*here:
		return DrainLeavesFew
	}
	return 0
}

// drain separates the endpoints that the config drains from the others.
func (p *Plan[E]) drain() (live, drained []E) {
	if len(p.Config.Drain) == 0 {
		return p.Endpoints, nil
	}
	all, selects := p.pointers(p.Endpoints), p.Client.Selector
	if p.Placed == nil {
		selects = nil // the list is for all clients, whatever their selectors
	}
	p.Drain = p.Config.FollowDrain(all, p.Placed, selects, p.Held)
	p.reportUnknown(p.Drain.Unknown)
	if problem := p.Drain.Problem(); problem != "" {
		p.report("%s", problem)
	}
	live = make([]E, 0, len(all))
	for i, e := range all {
		if p.Drain.Drained[e] {
			drained = append(drained, p.Endpoints[i])
		} else {
			live = append(live, p.Endpoints[i])
		}
	}
	return live, drained
}

// maxReported bounds the names in one report.
const maxReported = 5

// reportUnknown reports names in drain that no endpoint has.
func (p *Plan[E]) reportUnknown(names []string) {
	if len(names) == 0 {
		return
	}
	var texts []string
	for _, name := range names[:min(maxReported, len(names))] {
		texts = append(texts, fmt.Sprintf("%.80q", name))
	}
	if more := len(names) - maxReported; more > 0 {
		texts = append(texts, fmt.Sprintf("%d more", more))
	}
	p.report("drain names %s: no endpoint of %q has that name", strings.Join(texts, ", "), p.Service)
}
