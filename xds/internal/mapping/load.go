package mapping

import (
	"math"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// located is an endpoint's address as xDS has it: an IP address, for a client gives up all endpoints of a cluster for one
// with a name.
type located struct {
	address string
	port    uint32
}

// locate reads the addresses. Of two endpoints with one address, the first by instance is told.
func (m *mapping) locate() {
	m.located = make([]*located, len(m.Endpoints))
	seen := make(map[netip.AddrPort]bool, len(m.Endpoints))
	names := false
	for i := range m.Endpoints {
		at, err := netip.ParseAddrPort(m.Endpoints[i].Addr)
		if err != nil {
			names = true
			continue
		}
		if !seen[at] {
			seen[at] = true
			m.located[i] = &located{at.Addr().String(), uint32(at.Port())}
		}
	}
	if names {
		m.lose("endpoints with a name for an address: gRPC takes IP addresses alone by xDS, so no client calls these")
	}
}

// load says where the endpoints of a cluster are. Those that are drained stay, and are marked.
func (p *plan) load(name string, members []int) *endpointv3.ClusterLoadAssignment {
	load := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	priority := uint32(0)
	for _, tier := range p.byZone(members) {
		if tier = p.bySubset(tier); len(tier) == 0 {
			continue // grpc-go refuses a gap in priorities, and C core 1.51 crashes after a locality without endpoints
		}
		load.Endpoints = append(load.Endpoints, p.localities(tier, priority)...)
		priority++
	}
	return load
}

// first returns of the members of a cluster as many as a client can receive, first those that get new calls.
func (p *plan) first(members []int) (all []int) {
	p.lose("a client is given %d KiB of the endpoints of a cluster at most: the last are not known to it", maxBytes>>10)
	room := maxBytes
	for _, drained := range []bool{false, true} {
		for _, i := range members {
			if p.drained[i] != drained {
				continue
			}
			if room -= proto.Size(p.load("", []int{i})); room < 0 {
				return all
			}
			all = append(all, i)
		}
	}
	return all
}

// localities says where the endpoints of a priority are.
func (p *plan) localities(members []int, priority uint32) []*endpointv3.LocalityLbEndpoints {
	if p.policy.weighs() {
		return p.byWeight(members, priority)
	}
	// One for all: rings of several localities differ between implementations, and a locality that is not told apart needs
	// no weight that follows how many endpoints there are.
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

// byWeight makes a locality of each endpoint: gRPC goes by the weights of localities, not by those of endpoints, see
// grpc/grpc#32004.
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

// shift returns by how many bits weights are to be shifted for gRPC to add them up in 32 bits.
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

// maxHashKey bounds the instance id that is sent for an endpoint's place on a ring, in bytes.
const maxHashKey = 256

func (p *plan) endpoint(i int) *endpointv3.LbEndpoint {
	at, health := p.located[i], corev3.HealthStatus_HEALTHY
	if p.drained[i] {
		health = corev3.HealthStatus_DRAINING
	}
	e := &endpointv3.LbEndpoint{
		HealthStatus: health,
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: at.address, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: at.port},
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
		p.lose("instance ids of more than %d bytes: by affinity, clients reach other instances than the runtime's clients do", maxHashKey)
	default:
		// Where a client knows this, an instance has the place on the ring that the runtime's clients give it:
		// https://github.com/grpc/proposal/blob/master/A76-ring-hash-improvements.md.
		key := structpb.NewStringValue(strings.ToValidUTF8(name, "\ufffd"))
		e.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"envoy.lb": {Fields: map[string]*structpb.Value{"hash_key": key}}}}
	}
	return e
}
