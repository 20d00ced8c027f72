// Package planner decides which endpoints of a key a call may go to, and in
// which order of preference. A plan leads from the endpoints in etcd to the
// endpoints among which a policy picks. The package does no I/O, and equal
// input gives equal plans.
//
// The steps are, in this order: drain, selector, lane, split, zone, subset.
// Before them, package discovery merges and holds entries. After them, the
// picker skips endpoints that lack a method, and picks.
//
//	planner.go the input of a plan, and the plan
//	match.go   the matches of a config that an endpoint satisfies
//	lanes.go   the lanes, which the routes assign endpoints to, and the base, for calls without a lane
//	drain.go   the endpoints that the config drains
//	groups.go  a lane's groups by split, their tiers by zone, and the subset of each
//
// # How an endpoint ends
//
// A departed endpoint is the last resort of each view. It takes calls while
// live endpoints connect, but not while one of the view is ready. In a lane,
// the ready live endpoints of the base also come first, unless the lane awaits
// an endpoint of its own. TestWalkCore of package balancer checks after each
// event that no ready live endpoint could take such a call.
package planner

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
	dropped []string        // reports of the options without effect
	drained map[string]bool // instance ids and addresses
	splits  *matcher        // finds the groups of Split that an endpoint matches
	routes  *matcher        // finds the routes of Route that an endpoint matches
	groups  []uint64        // the id of each group of Split, a hash of its match
}

// NewConfig returns the Config of a policy.
func NewConfig(e *serviceconfig.Etcd) *Config {
	c := &Config{Etcd: *e, drained: make(map[string]bool, len(e.Drain))}
	c.dropped = c.DropUseless()

	var splits, routes []map[string]string
	for _, s := range e.Split {
		splits = append(splits, s.Match)
		c.groups = append(c.groups, xxhash.Sum64String(s.Key()))
	}

	for _, r := range e.Route {
		routes = append(routes, r.Match)
	}

	c.splits = newMatcher(splits)
	c.routes = newMatcher(routes)

	for _, d := range e.Drain {
		c.drained[d.Instance] = true
	}

	return c
}

// Client describes the caller.
type Client struct {
	Zone     string                        // "" if unknown
	Selector func(*endpoint.Endpoint) bool // nil if every endpoint is selected

	// how many endpoints of each set the client uses, all if it is below 1
	Subset int

	// the largest number of endpoints of a cluster that the client uses, 0 for
	// all
	Most int

	Seed maphash.Seed // ranks endpoints for a subset
}

// Input is the input of a plan. E is the caller's form of an endpoint.
type Input[E any] struct {
	Service   string // the key, for messages
	Config    *Config
	Client    *Client
	Endpoints []E
	Away      []E // of the fallback cluster
	Departed  []E // no longer under the key, but still connected
	Of        func(*E) *endpoint.Endpoint
	Held      map[string]struct{} // addresses of Endpoints that vanished from etcd

	// why etcd has no endpoints; nil if it has some, or if the reason is not
	// known
	Err error
}

// Class is a level of preference.
type Class int

// The classes are in the order of preference. Endpoints of the first two are
// live. A class after them takes calls only while no class before it can.
const (
	OwnZone Class = iota // or of any zone, if the client prefers no zone
	OtherZones
	Away     // of the fallback cluster
	Departed // no longer in etcd, but still connected
	Drained  // by an operator
	classes
)

// IsLive reports whether the endpoints of a class are live: neither of the
// fallback cluster, nor departed, nor drained.
func (c Class) IsLive() bool {
	return c < Away
}

// Plan holds the endpoints that calls may go to. It is immutable.
type Plan[E any] struct {
	*Input[E]

	// the targets of calls: live endpoints, then those of the fallback cluster,
	// departed ones, and drained ones
	All []E

	Live    int // how many of All are live
	Empty   error
	Reports []string   // problems of the config, for operators
	Base    *Lane      // where calls without a lane go
	Drain   *Drain     // the effect of the config's list of endpoints to drain
	Placed  *Placement // nil without routes

	// the ends of the classes in All; all live endpoints count as OwnZone
	ends [classes]int

	lanes map[string]*Lane
}

// Make makes a plan.
func Make[E any](in *Input[E]) *Plan[E] {
	p := &Plan[E]{Input: in, Drain: new(Drain), Reports: slices.Clip(in.Config.dropped)}
	if len(in.Config.Route) > 0 {
		p.Placed = in.Config.Place(slices.Concat(p.pointers(in.Endpoints),
			p.pointers(in.Away), p.pointers(in.Departed)))
	}

	p.followDrain()
	live, drained := p.undrained(in.Endpoints)
	away, more := p.undrained(in.Away)
	p.Divide(p.selected(live), p.selected(away), p.selected(in.Departed),
		p.selected(slices.Concat(drained, more)))

	if p.Live == 0 {
		p.Empty = p.whyEmpty(len(live))
	}

	p.makeLanes()

	if p.Live > 0 {
		p.reportSplit()
	}

	return p
}

// pointers returns endpoints in the form that Config takes.
func (p *Plan[E]) pointers(endpoints []E) []*endpoint.Endpoint {
	all := make([]*endpoint.Endpoint, len(endpoints))
	for i := range endpoints {
		all[i] = p.Of(&endpoints[i])
	}

	return all
}

// Divide sets All, Live and ends.
func (p *Plan[E]) Divide(live, away, left, drained []E) {
	p.All = live
	p.Live = len(live)

	if len(away)+len(left)+len(drained) > 0 {
		p.All = slices.Concat(live, away, left, drained)
	}

	p.ends = [classes]int{p.Live, p.Live, p.Live + len(away),
		p.Live + len(away) + len(left), len(p.All)}
}

// ClassOf returns the class of an endpoint of All. It returns OwnZone for every
// live endpoint, even in another zone.
func (p *Plan[E]) ClassOf(i int) Class {
	for c := OwnZone; ; c++ {
		if i < p.ends[c] {
			return c
		}
	}
}

// Fallback returns the endpoints of All in the fallback cluster.
func (p *Plan[E]) Fallback() []E {
	return p.All[p.Live:p.ends[Away]]
}

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

// whyEmpty returns an error that says why no endpoint is live. selectable is
// the number of endpoints that are not drained.
func (p *Plan[E]) whyEmpty(selectable int) error {
	switch {
	case len(p.Endpoints) > 0:
		text := fmt.Sprintf(
			"etcd: none of the %d endpoints of %q is selected for this connection",
			selectable, p.Service)
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
