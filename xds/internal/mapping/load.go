package mapping

import (
	"math"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// address is an endpoint's address in xDS: an IP address, because a client rejects all endpoints of a cluster if one has a name.
type address struct {
	ip   string
	port uint32
}

// parseAddresses sets addresses. If several endpoints share an address, only the first by instance has one.
func (m *mapping) parseAddresses() {
	m.addresses = make([]*address, len(m.Endpoints))
	seen := make(map[netip.AddrPort]bool, len(m.Endpoints))
	for i := range m.Endpoints {
		switch at, err := netip.ParseAddrPort(m.Endpoints[i].Addr); {
		case err != nil:
			m.lacks("endpoints with a host name as their address: gRPC accepts only IP addresses in xDS, so clients do not call them")
		case !seen[at]:
			seen[at] = true
			m.addresses[i] = &address{at.Addr().String(), uint32(at.Port())}
		}
	}
}

// load returns the endpoints of a cluster, by priority. Above maxBytes, it leaves out the last ones.
func (p *plan) load(name string, tiers [][]int) (*endpointv3.ClusterLoadAssignment, *Resource) {
	for {
		load := &endpointv3.ClusterLoadAssignment{ClusterName: name}
		for priority, members := range tiers { // no gap, which grpc-go rejects, and no empty locality, which crashes C core 1.51
			load.Endpoints = append(load.Endpoints, p.localities(p.chosen(members), uint32(priority))...)
		}
		r, err := newResource(name, load)
		if p.fail(err); err != nil || len(r.Body.GetValue()) <= maxBytes {
			return load, r
		}
		p.lacks("clients receive at most %d KiB of endpoints of a cluster: they do not know the last ones", maxBytes>>10)
		last := len(tiers) - 1
		tiers = append(slices.Clone(tiers[:last]), tiers[last][:len(tiers[last])*9/10])
		if len(tiers[last]) == 0 {
			tiers = tiers[:last]
		}
	}
}

// localities returns the localities of a priority.
func (p *plan) localities(members []int, priority uint32) []*endpointv3.LocalityLbEndpoints {
	if p.policy.child.Name == serviceconfig.WeightedName {
		return p.byWeight(members, priority)
	}
	// One for all: implementations build rings of several localities differently.
	group := locality("", priority, 1)
	shift := p.shift(members)
	for _, i := range members {
		e := p.endpoint(i)
		if p.ring != nil {
			e.LoadBalancingWeight = wrapperspb.UInt32(p.weight(i, shift))
		}
		group.LbEndpoints = append(group.LbEndpoints, e)
	}
	return []*endpointv3.LocalityLbEndpoints{group}
}

// byWeight returns a locality for each endpoint: gRPC uses the weights of localities and ignores those of endpoints, see grpc/grpc#32004.
func (p *plan) byWeight(members []int, priority uint32) (all []*endpointv3.LocalityLbEndpoints) {
	shift := p.shift(members)
	for _, i := range members {
		group := locality(p.Endpoints[i].Addr, priority, p.weight(i, shift))
		group.LbEndpoints = []*endpointv3.LbEndpoint{p.endpoint(i)}
		all = append(all, group)
	}
	return all
}

func locality(name string, priority, weight uint32) *endpointv3.LocalityLbEndpoints {
	return &endpointv3.LocalityLbEndpoints{
		Locality: &corev3.Locality{SubZone: name}, Priority: priority, LoadBalancingWeight: wrapperspb.UInt32(weight),
	}
}

// shift returns the number of bits to shift weights by, so that their sum fits in 32 bits, as gRPC requires.
func (p *plan) shift(members []int) (shift int) {
	sum := uint64(0)
	for _, i := range members {
		sum += uint64(max(1, p.Endpoints[i].Weight))
	}
	for sum>>shift > math.MaxUint32/2 {
		shift++
	}
	return shift
}

func (p *plan) weight(i, shift int) uint32 { return max(1, p.Endpoints[i].Weight>>shift) }

// maxHashKey limits the instance id that is sent as the hash key of an endpoint, in bytes.
const maxHashKey = 256

func (p *plan) endpoint(i int) *endpointv3.LbEndpoint {
	at := p.addresses[i]
	e := &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: at.ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: at.port},
			}},
		}}},
	}
	addr, before := p.Endpoints[i].Addr, ""
	if i > 0 {
		before = p.Endpoints[i-1].Instance
	}
	switch name := endpoint.RingName(p.Endpoints[i].Instance, addr, before); {
	case p.ring == nil || name == addr:
	case len(name) > maxHashKey:
		p.lacks("instance ids of more than %d bytes: by affinity, clients choose other instances than the runtime's clients", maxHashKey)
	default:
		// Clients that know this key put the endpoint at the same place on the ring as the runtime's clients:
		// https://github.com/grpc/proposal/blob/master/A76-ring-hash-improvements.md.
		key := structpb.NewStringValue(strings.ToValidUTF8(name, "\ufffd"))
		e.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb": {Fields: map[string]*structpb.Value{"hash_key": key}}}}
	}
	return e
}
