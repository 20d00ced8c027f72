package balancer

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// The zones of a leafKey, where zones are preferred.
const (
	ownZone = iota
	otherZones
)

// byZone returns the endpoints in the client's own zone and then the others, or all in one set.
func (p *plan) byZone(endpoints []resolver.Endpoint) [][]resolver.Endpoint {
	if !p.hasZones() {
		return [][]resolver.Endpoint{endpoints}
	}
	zone := p.in.client.Zone
	sets := make([][]resolver.Endpoint, 2)
	for _, ep := range endpoints {
		at := otherZones
		if e := attr.Endpoint(ep); e != nil && e.Zone == zone {
			at = ownZone
		}
		sets[at] = append(sets[at], ep)
	}
	return sets
}

// hasZones reports whether the plan tells the client's own zone from others.
func (p *plan) hasZones() bool { return p.in.config.PreferZone && p.in.client.Zone != "" }

// readiness counts the endpoints of a leaf. Those in neither count are not ready.
type readiness struct {
	ready   int // connected and not known to be unwell
	waiting int // for a place to connect, and never tried, so nothing is known of them
}

// share is a share of the calls: n out of every of.
type share struct{ n, of uint64 }

// allCalls is the share of a zone that takes all of its callers' calls.
var allCalls = share{1, 1}

// staying returns the share of the zone's calls that a leaf of the client's own zone takes. percent of its endpoints
// must be ready for it to take all; below that its share is in proportion, so that it falls from 1 to 0 without a step.
func (l *leaf) staying(percent uint32) share {
	known := uint64(max(0, len(l.endpoints)-l.readiness.waiting))
	has, wants := 100*min(uint64(l.readiness.ready), known), uint64(percent)*known
	if has >= wants {
		return allCalls
	}
	return share{has, wants}
}

// spill returns the picker for the calls of a group that leave the client's zone, nil if none does, and the share that
// stays.
func (g *generation) spill(group *group) (away balancer.Picker, stay share) {
	percent := g.plan.in.config.ZoneMinPercent
	if percent == 0 {
		return nil, allCalls
	}
	own := g.readyIn(group, ownZone)
	if own == nil {
		return nil, allCalls
	}
	if stay = own.staying(percent); stay == allCalls {
		return nil, allCalls
	}
	others := g.readyIn(group, otherZones)
	if others == nil {
		return nil, allCalls
	}
	return others.state.Picker, stay
}

// readyIn returns the first leaf of a group in a zone if it is ready, nil if it is not or there is none. Leaves that
// cannot take calls are passed over.
func (g *generation) readyIn(group *group, zone int) *leaf {
	for i := range group.tiers {
		l := g.leaves[group.tiers[i].key]
		if l == nil || l.key.zone != zone || !usable(l.state) {
			continue
		}
		if l.state.ConnectivityState == connectivity.Ready {
			return l
		}
		return nil // it connects when it is called
	}
	return nil
}
