// Package plan decides which endpoints of a key a call may go to, and in which order of preference: the steps from the endpoints in etcd
// to those among which a policy picks. It is pure: equal input gives equal plans, with or without connections.
//
// The steps are, in this order: drain, selector, lane, split, zone, subset. Package discovery merges and holds entries before that.
// The picker passes over endpoints that lack a method, and picks, after it.
//
//	plan.go       the input of a plan, and the plan
//	match.go      which matches of a config an endpoint satisfies
//	placement.go  which endpoints the routes put in which lanes
//	drain.go      the endpoints that the config drains
//	lanes.go      lanes, and the base
//	groups.go     a lane's groups by split, their tiers by zone, and the subset of each
package plan

import (
	"errors"
	"fmt"
	"hash/maphash"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Config is a policy's config in the form that plans need. It is immutable.
type Config struct {
	serviceconfig.Etcd
	drained map[string]struct{} // instance ids and addresses
	splits  *matcher            // of Split
	routes  *matcher            // of Route
	groups  []uint64            // the ids of the groups of Split, by their matches
}

// NewConfig returns the Config of a policy.
func NewConfig(e *serviceconfig.Etcd) *Config {
	c := &Config{Etcd: *e, drained: make(map[string]struct{}, len(e.Drain))}
	var splits, routes []map[string]string
	for _, s := range e.Split {
		splits, c.groups = append(splits, s.Match), append(c.groups, xxhash.Sum64String(s.Key()))
	}
	for _, r := range e.Route {
		routes = append(routes, r.Match)
	}
	c.splits, c.routes = newMatcher(splits), newMatcher(routes)
	for _, name := range e.Drain {
		c.drained[name] = struct{}{}
	}
	return c
}

// Client describes who calls.
type Client struct {
	Zone     string                        // "": unknown
	Selector func(*endpoint.Endpoint) bool // nil: every endpoint is selected
	Subset   int                           // how many endpoints of each set it uses; below 1: all
	Most     int                           // how many endpoints of a cluster it uses; 0: any number
	Seed     maphash.Seed                  // ranks endpoints for a subset
}

// Input is the input of a plan. E is the caller's form of an endpoint.
type Input[E any] struct {
	Service   string // the key, for texts
	Config    *Config
	Client    *Client
	Endpoints []E
	Away      []E // of the cluster to fall back on
	Left      []E // no longer under the key, and still connected
	Of        func(*E) *endpoint.Endpoint
	Held      map[string]struct{} // addresses of Endpoints that etcd no longer has
	Err       error               // why there are no Endpoints; nil: not known
}

// Class says how preferred an endpoint is.
type Class int

// The classes, in the order of preference. Endpoints of the first two are live. A class after them takes calls only while no class
// before it can.
const (
	OwnZone Class = iota // or any zone, where zones do not count
	OtherZones
	Away    // of the cluster to fall back on
	Left    // etcd no longer has these, and they are still connected
	Drained // by an operator
	classes
)

// IsLive reports whether endpoints of a class are called by choice.
func (c Class) IsLive() bool { return c < Away }

// Plan says which endpoints calls may go to. It is immutable.
type Plan[E any] struct {
	*Input[E]
	All     []E // that calls may go to: the live ones, then those away, those that have left, and the drained ones
	Live    int // how many of All are live
	Empty   error
	Reports []string   // problems of the config, for people
	Base    *Lane      // of calls without a lane
	Drain   *Drain     // of the config's list
	Placed  *Placement // nil without lanes

	ends  [classes]int // where the endpoints of a class end in All; all live ones count as of their OwnZone
	lanes map[string]*Lane
}

// Make makes a plan.
func Make[E any](in *Input[E]) *Plan[E] {
	p := &Plan[E]{Input: in, Drain: new(Drain)}
	if len(in.Config.Route) > 0 {
		p.Placed = in.Config.Place(slices.Concat(p.pointers(in.Endpoints), p.pointers(in.Away), p.pointers(in.Left)))
	}
	live, drained := p.drain()
	p.divide(p.selected(live), p.callableAway(), p.selected(in.Left), p.selected(drained))
	if p.Live == 0 {
		p.Empty = p.whyEmpty(len(live))
	}
	p.makeLanes()
	if p.Live > 0 {
		p.reportSplit()
	}
	return p
}

// pointers returns endpoints in the form that configs know.
func (p *Plan[E]) pointers(endpoints []E) []*endpoint.Endpoint {
	all := make([]*endpoint.Endpoint, len(endpoints))
	for i := range endpoints {
		all[i] = p.Of(&endpoints[i])
	}
	return all
}

// divide sets All.
func (p *Plan[E]) divide(live, away, left, drained []E) {
	p.All, p.Live = live, len(live)
	if len(away)+len(left)+len(drained) > 0 {
		p.All = slices.Concat(live, away, left, drained)
	}
	p.ends = [classes]int{p.Live, p.Live, p.Live + len(away), p.Live + len(away) + len(left), len(p.All)}
}

// ClassOf returns the class of an endpoint of All, where zones do not count.
func (p *Plan[E]) ClassOf(i int) Class {
	for c := OwnZone; ; c++ {
		if i < p.ends[c] {
			return c
		}
	}
}

// Fallback returns the endpoints of All that are away.
func (p *Plan[E]) Fallback() []E { return p.All[p.Live:p.ends[Away]] }

// selected returns the endpoints that the client's selector selects.
func (p *Plan[E]) selected(endpoints []E) []E {
	if p.Client.Selector == nil {
		return endpoints
	}
	selected := make([]E, 0, len(endpoints))
	for i := range endpoints {
		if p.Client.Selector(p.Of(&endpoints[i])) {
			selected = append(selected, endpoints[i])
		}
	}
	return selected
}

// callableAway returns the endpoints away that the client may call.
func (p *Plan[E]) callableAway() []E {
	away := p.selected(p.Input.Away)
	if len(p.Config.Drain) == 0 {
		return away
	}
	return slices.DeleteFunc(slices.Clone(away), func(e E) bool { return p.Config.drains(p.Of(&e)) })
}

// whyEmpty returns why no endpoint is live. selectable is the number of endpoints that are not drained.
func (p *Plan[E]) whyEmpty(selectable int) error {
	switch {
	case len(p.Endpoints) > 0:
		text := fmt.Sprintf("etcd: none of the %d endpoints of %q is selected for this connection", selectable, p.Service)
		if drained := len(p.Endpoints) - selectable; drained > 0 {
			text += fmt.Sprintf(" (%d more are drained)", drained)
		}
		return errors.New(text)
	case p.Err != nil:
		return p.Err
	}
	return fmt.Errorf("etcd: no endpoint of %q is known", p.Service)
}

// report notes a problem of the config.
func (p *Plan[E]) report(format string, args ...any) {
	p.Reports = append(p.Reports, fmt.Sprintf(format, args...))
}
