package mapping

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// The routes of a host are the product of its methods, its lanes, and the groups of a split. A client receives 4 MiB at once.
const (
	maxRouteBytes = 2 << 20
	maxRoutes     = 5000
)

// fit leaves out what finds no place in so many bytes of routes: methods that the service config and endpoints name, and then
// the last lanes.
func (p *plan) fit(all []path, room int) []path {
	each, beside := 1, 1 // routes of a path: those of a lane, and those beside
	if p.policy.etcd.LaneHeader != "" {
		each, beside = 2, 2
	}
	if p.closed {
		beside += each
	}
	toBase := p.need("", len(p.base.members))
	cost := func(at path) int { return beside * toBase(at) }
	must := func(at path) bool { return at.rank() == 2 || at == path{service: p.service.Name} || p.leads(at) }
	for _, at := range all {
		if must(at) {
			room -= cost(at)
		}
	}
	paths := len(all)
	all = slices.DeleteFunc(all, func(at path) bool {
		if must(at) {
			return false
		}
		n := cost(at)
		if n > room {
			return true
		}
		room -= n
		return false
	})
	if left := paths - len(all); left > 0 {
		p.lose("there are %d methods that differ, and a client is given %d KiB of routes at most: %d of these are called as all others of their services are",
			paths, maxRouteBytes>>10, left)
	}
	for i, l := range p.lanes {
		members := len(l.members)
		if !l.strict {
			members = max(members, len(p.base.members)) // to which methods go that the lane does not serve
		}
		toLane := p.need(l.name, members)
		for _, at := range all {
			room -= each * toLane(at)
		}
		if room < 0 {
			p.lose("there are %d lanes and %d methods that differ, and a client is given %d KiB of routes at most: the last %d lanes are not known to it",
				len(p.lanes), len(all), maxRouteBytes>>10, len(p.lanes)-i)
			p.lanes = p.lanes[:i]
			break
		}
	}
	return all
}

// need returns a function that tells how many bytes a route takes, about, to so many endpoints of a lane. It is no less than
// what makes maxRoutes of them.
func (p *plan) need(lane string, members int) func(at path) int {
	group := 0
	for _, name := range p.policy.groups {
		group = max(group, len(name))
	}
	const labels, hashes, timeoutAndRetries = 40, 32, 200
	shares := max(1, min(members, len(p.policy.etcd.Split)+1))
	n := timeoutAndRetries + shares*(len(p.prefix)+len(brief(lane))+group+labels+hashes) +
		len(serviceconfig.LaneHeader) + len(p.policy.etcd.LaneHeader) + len(lane)
	if p.ring != nil {
		n += len(p.ring.RequestHashHeader)
	}
	return func(at path) int { return max(maxRouteBytes/maxRoutes+1, n+len(at.service)+len(at.method)) }
}
