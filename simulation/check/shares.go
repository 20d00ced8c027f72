package check

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// slackCalls is the tolerance of the share of an instance, in calls. Even an
// exact policy may differ by one call for each group.
const slackCalls = 3

// Rounds is the number of calls for each instance in a check of shares.
const Rounds = 12

// WrongShares describes how n calls of a caller, counted by address, differ
// from the shares of the policy in force, or returns "".
func (l Look) WrongShares(c schedule.Caller, served map[string]int, n int) string {
	p, known := l.Policy(c.Config())
	undrained := l.Undrained(p)
	var wrong []string

	answered := 0
	for addr, calls := range served {
		answered += calls

		if !slices.Contains(undrained, addr) {
			wrong = append(wrong, fmt.Sprintf(
				"%d calls to %s, want none: it is drained or does not run", calls, addr))
		}
	}

	switch subset := Subset(c, p); {
	case !known:
	case subset > 0:
		wrong = append(wrong, l.wrongSubset(subset, p, undrained, served)...)
	default:
		wrong = append(wrong, l.misdirected(p, c.Zone, undrained, served, n)...)
	}

	if answered < n && len(undrained) > 0 {
		wrong = append(wrong,
			fmt.Sprintf("%d of %d calls failed, want none", n-answered, n))
	}

	slices.Sort(wrong)

	return strings.Join(wrong, "; ")
}

// Subset returns the number of instances that a caller uses under a policy, or
// 0 if the caller uses all.
func Subset(c schedule.Caller, p fixtures.Policy) int {
	switch {
	case p.First:
		return 1
	case p.Subset == 0 || c.Subset > 0 && c.Subset < p.Subset:
		return c.Subset
	}

	return p.Subset
}

// Undrained returns the addresses that a policy does not drain, or all if too
// few would remain.
func (l Look) Undrained(p fixtures.Policy) []string {
	addrs := l.Serving()
	rest := only(addrs, func(addr string) bool { return !l.drained(p.Drain, addr) })
	if len(rest) == 0 || 100*len(rest) < p.Least*len(addrs) {
		return addrs
	}

	return rest
}

// Room returns the number of instances that a caller may call under a policy,
// or 0 if that is unknown.
func (l Look) Room(c schedule.Caller, p fixtures.Policy) int {
	subset := Subset(c, p)
	if subset > 0 && p.PreferZone {
		return 0 // the number depends on the zones
	}

	return l.room(subset, p, l.Undrained(p))
}

// room returns the number of addresses that may be called: all, or a subset of
// each group of a split. It returns 0 if the split matches no address, because
// all may be called then.
func (l Look) room(subset int, p fixtures.Policy, addrs []string) (n int) {
	groups, weights := l.groups(p, addrs)
	for i, group := range groups {
		switch {
		case weights[i] == 0:
		case subset > 0:
			n += min(subset, len(group))
		default:
			n += len(group)
		}
	}

	return n
}

// wrongSubset describes how the number of called instances differs from the
// size of the subset.
func (l Look) wrongSubset(
	subset int,
	p fixtures.Policy,
	serving []string,
	served map[string]int,
) (wrong []string) {
	limit := l.room(subset, p, serving)
	switch {
	case limit == 0:
	case len(served) > limit:
		wrong = append(wrong, fmt.Sprintf(
			"%d instances were called, want at most the %d of the subset", len(served),
			subset))

	case p.Exact && !p.PreferZone && len(served) < limit:
		wrong = append(wrong, fmt.Sprintf(
			"%d instances were called, want the %d of the subset, of %d in all",
			len(served), subset, len(serving)))
	}

	return wrong
}

// misdirected describes how n calls differ from the shares of the policy in a
// zone. Under a policy that is not exact, only calls to an address whose share
// is 0 are wrong.
func (l Look) misdirected(
	p fixtures.Policy,
	zone string,
	serving []string,
	served map[string]int,
	n int,
) (wrong []string) {
	for addr, part := range l.shares(p, zone, serving) {
		calls := float64(served[addr])
		share := part * float64(n)
		inexact := p.Exact && math.Abs(calls-share) > slackCalls

		if inexact || share == 0 && calls > 0 {
			wrong = append(wrong,
				fmt.Sprintf("%v of %d calls to %s, want %.1f", calls, n, addr, share))
		}
	}

	return wrong
}

// shares returns the share of calls of each address under a policy, or nil if
// no group of its split matches.
func (l Look) shares(
	p fixtures.Policy,
	zone string,
	serving []string,
) map[string]float64 {
	groups, weights := l.groups(p, serving)

	total := 0.0
	for _, weight := range weights {
		total += weight
	}

	if total == 0 {
		return nil // the split matches no instance, so all instances share the calls
	}

	shares := map[string]float64{}
	for _, addr := range serving {
		shares[addr] = 0
	}

	for i, group := range groups {
		if p.PreferZone && zone != "" {
			group = onlyOrAll(group, func(addr string) bool {
				return l.said(addr).Zone == zone
			})
		}

		if weights[i] > 0 {
			maps.Copy(shares, l.spread(group, p, weights[i]/total))
		}
	}

	return shares
}

// spread distributes a share among addresses by the child policy.
func (l Look) spread(addrs []string, p fixtures.Policy, part float64) map[string]float64 {
	shares := map[string]float64{}
	total := 0.0
	for _, addr := range addrs {
		shares[addr] = 1
		if p.Weighs {
			shares[addr] = float64(max(1, l.said(addr).Weight))
		}

		total += shares[addr]
	}

	for addr := range shares {
		shares[addr] *= part / total
	}

	return shares
}

// groups returns the addresses in each group of the policy's split, and the
// weights of the groups. Addresses in a lane are in no group. An empty group
// has the weight 0. Without a split there is one group.
func (l Look) groups(
	p fixtures.Policy,
	serving []string,
) (groups [][]string, weights []float64) {
	serving = l.outside(p.Routes, serving)
	if len(p.Split) == 0 {
		return [][]string{serving}, []float64{1}
	}

	for _, g := range p.Split {
		addrs := only(serving, func(addr string) bool { return l.matches(g.Match, addr) })
		weight := g.Weight
		if len(addrs) == 0 {
			weight = 0
		}

		groups = append(groups, addrs)
		weights = append(weights, weight)
	}

	return groups, weights
}

// only returns the addresses for which match returns true.
func only(addrs []string, match func(addr string) bool) []string {
	return slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool {
		return !match(addr)
	})
}

// onlyOrAll returns the addresses for which match returns true, or all if there
// are none.
func onlyOrAll(addrs []string, match func(addr string) bool) []string {
	if some := only(addrs, match); len(some) > 0 {
		return some
	}

	return addrs
}

// label returns the version or the zone that etcd has for an address.
func (l Look) label(addr, field string) string {
	said := l.said(addr)
	return map[string]string{"version": said.Version, "zone": said.Zone}[field]
}

// matches reports whether an address has the labels that a group or a route
// asks for.
func (l Look) matches(match map[string]string, addr string) bool {
	for field, value := range match {
		if l.label(addr, field) != value {
			return false
		}
	}

	return true
}

// in reports whether a route puts an address in a lane, or in any lane if lane
// is "".
func (l Look) in(r fixtures.Route, lane, addr string) bool {
	if r.Label != "" {
		value := l.label(addr, r.Label)
		return value != "" && (lane == "" || value == lane)
	}

	return (lane == "" || r.Lane == lane) && l.matches(r.Match, addr)
}

// outside returns the addresses in no lane, or all addresses if each is in a
// lane.
func (l Look) outside(routes []fixtures.Route, addrs []string) []string {
	return onlyOrAll(addrs, func(addr string) bool {
		return !slices.ContainsFunc(routes, func(r fixtures.Route) bool {
			return l.in(r, "", addr)
		})
	})
}

// Lane returns the addresses for calls of a lane, or none if the calls should
// fail.
func (l Look) Lane(routes []fixtures.Route, lane string) []string {
	addrs := l.Serving()

	// the first matching route counts
	i := slices.IndexFunc(routes, func(r fixtures.Route) bool {
		return r.Label != "" || r.Lane == lane
	})
	if i >= 0 {
		inside := only(addrs, func(addr string) bool {
			return l.in(routes[i], lane, addr)
		})
		if len(inside) > 0 || routes[i].Strict {
			return inside
		}
	}

	return l.outside(routes, addrs)
}
