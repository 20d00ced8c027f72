package balancer

import (
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// byClass returns the members of each class, in the order of preference.
func (p *plan) byClass(members []int32) [drained + 1][]int32 {
	var classes [drained + 1][]int32
	for _, m := range members {
		at := p.partOf(int(m))
		if at == ownZone && p.hasZones() {
			if e := attr.Endpoint(p.endpoints[m]); e == nil || e.Zone != p.in.client.Zone {
				at = otherZones
			}
		}
		classes[at] = append(classes[at], m)
	}
	return classes
}

// hasZones reports whether the plan tells the client's own zone from others.
func (p *plan) hasZones() bool { return p.in.config.PreferZone && p.in.client.Zone != "" }

// fraction is a part of the calls: n out of every of.
type fraction struct{ n, of uint64 }

// allCalls keeps every call.
var allCalls = fraction{1, 1}

// staying returns the fraction of calls that stay in a set. It is all of them while percent of the known members are ready; below
// that it falls in proportion, to 0.
func staying(percent uint32, ready, known int) fraction {
	known = max(0, known)
	has, wants := 100*uint64(min(ready, known)), uint64(percent)*uint64(known)
	if has >= wants {
		return allCalls
	}
	return fraction{has, wants}
}
