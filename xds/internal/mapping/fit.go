package mapping

import (
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// The routes and clusters of a host are the product of its methods, its lanes, and the groups of a split. A client receives 4 MiB
// at once: all routes, all clusters, or the endpoints of a cluster.
const (
	maxBytes  = 2 << 20 // of each of these
	maxRoutes = 5000
	// maxNamed bounds the texts that are looked through for methods, in bytes: those of many lanes have millions of them.
	maxNamed = 512 << 10
)

// fit leaves out what finds no place in the service's part of the bytes of routes and of clusters: methods that the service config
// and endpoints name, and then the last lanes.
func (p *plan) fit(all []path) []path {
	room := maxBytes / len(p.services)
	clusterRoom := p.bytes + room
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
	made := make(map[*set]bool) // whether its clusters find place
	for _, at := range all {
		if !must(at) {
			continue
		}
		room -= cost(at)
		if !p.leads(at) {
			p.destination(p.inBase(at), nil)
			made[p.inBase(at)] = true
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
		s := p.inBase(at)
		fits, tried := made[s]
		if !tried {
			fits = p.within(clusterRoom, func() { p.destination(s, nil) })
			made[s] = fits
		}
		if fits {
			room -= n
		}
		return !fits
	})
	if left := paths - len(all); left > 0 {
		p.lose("there are %d methods that differ, and a client is given %d KiB of routes, and of clusters, at most: %d of these are called as all others of their services are",
			paths, maxBytes>>10, left)
	}
	byLane := slices.DeleteFunc(slices.Clone(all), p.leads)
	for i := range p.lanes {
		l := &p.lanes[i]
		members := len(l.members)
		if !l.strict {
			members = max(members, len(p.base.members)) // to which methods go that the lane does not serve
		}
		toLane := p.need(l.name, members)
		for _, at := range byLane {
			room -= each * toLane(at)
		}
		if room < 0 || !p.within(clusterRoom, func() {
			for _, at := range byLane {
				p.toLane(l, at, p.inBase(at))
			}
		}) {
			p.lose("there are %d lanes and %d methods that differ, and a client is given %d KiB of routes, and of clusters, at most: the last %d lanes are not known to it",
				len(p.lanes), len(all), maxBytes>>10, len(p.lanes)-i)
			p.lanes = p.lanes[:i]
			break
		}
	}
	return all
}

// within has clusters added, and reports whether there are no more bytes of them than room. If there are, it takes these back.
func (m *mapping) within(room int, add func()) bool {
	before, names := m.bytes, len(m.names)
	add()
	if m.bytes <= room {
		return true
	}
	for _, name := range m.names[names:] {
		delete(m.clusters, name)
		delete(m.loads, name)
	}
	m.bytes, m.names = before, m.names[:names]
	return false
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
	return func(at path) int { return max(maxBytes/maxRoutes+1, n+len(at.service)+len(at.method)) }
}
