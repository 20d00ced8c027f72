package mapping

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// parseAddresses sets addresses, which are IP addresses, because a client rejects all endpoints of a cluster if one has a name. If several
// endpoints share an address, only the first by instance has one.
func (m *mapping) parseAddresses() {
	m.addresses = make([]netip.AddrPort, len(m.Endpoints))
	seen := make(map[netip.AddrPort]bool, len(m.Endpoints))
	for i := range m.Endpoints {
		switch at, err := netip.ParseAddrPort(m.Endpoints[i].Addr); {
		case err != nil:
			m.lacks("endpoints with a host name as their address: gRPC accepts only IP addresses in xDS, so clients do not call them")
		case !seen[at]:
			seen[at] = true
			m.addresses[i] = at
		}
	}
}

// load returns the endpoints of a cluster, by priority, without gaps, which grpc-go rejects, or empty localities, which crash C core 1.51.
func (p *plan) load(name string, tiers [][]int) *Resource {
	load := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for priority, members := range tiers {
		load.Endpoints = append(load.Endpoints, p.localities(members, uint32(priority))...)
	}
	return p.resource(name, load)
}

// localities returns the localities of a priority: one for all, since implementations build rings of several localities differently. For
// weights, each endpoint has its own: gRPC uses the weights of localities and ignores those of endpoints, see grpc/grpc#32004.
func (p *plan) localities(members []int, priority uint32) (all []*endpointv3.LocalityLbEndpoints) {
	weights := make([]uint32, len(members))
	for n, i := range members {
		weights[n] = max(1, p.Endpoints[i].Weight)
	}
	weights = scaled(weights)
	byWeight := p.policy.child.Name == serviceconfig.WeightedName
	for n, i := range members {
		e, name, weight := p.endpoint(i), "", uint32(1)
		if byWeight {
			name, weight = p.Endpoints[i].Addr, weights[n]
		} else if p.ring != nil {
			e.LoadBalancingWeight = wrapperspb.UInt32(weights[n])
			if p.Endpoints[i].Instance != p.Endpoints[i].Addr {
				p.lacks("instance ids other than the address: an affinity chooses by the address, and the runtime's clients by the id")
			}
		}
		if byWeight || all == nil {
			all = append(all, &endpointv3.LocalityLbEndpoints{
				Locality: &corev3.Locality{SubZone: name}, Priority: priority, LoadBalancingWeight: wrapperspb.UInt32(weight),
			})
		}
		group := all[len(all)-1]
		group.LbEndpoints = append(group.LbEndpoints, e)
	}
	return all
}

func (p *plan) endpoint(i int) *endpointv3.LbEndpoint {
	at := p.addresses[i]
	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: at.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())},
			}},
		}}},
	}
}
