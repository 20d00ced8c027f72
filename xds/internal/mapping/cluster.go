package mapping

import (
	"cmp"
	"math"
	"net/netip"
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	pickfirstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/pick_first/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	localityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// addCluster makes a cluster of the endpoints in tiers, the preferred tier
// first. It does nothing if the cluster exists.
func (p *serviceTargets) addCluster(name string, tiers [][]int) {
	if p.clusters[name] != nil || p.err != nil {
		return
	}

	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{
			EdsConfig:   ads(),
			ServiceName: name,
		},
		OutlierDetection: p.outlierDetection(),
		// Without a threshold, clients limit a cluster to 1,024 concurrent
		// calls.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{
			{MaxRequests: wrapperspb.UInt32(math.MaxUint32)}}},
	}

	p.setPolicy(c)
	p.clusters[name] = p.resource(name, c)
	p.loads[name] = p.load(name, tiers)

	p.clusterBytes += proto.Size(p.clusters[name].Body)
	if p.clusterBytes > maxBytes {
		p.fail(errTooLarge)
	}
}

// setPolicy sets the policy that picks an endpoint of a cluster, round robin by
// default. A list of policies ends in round robin, because a client rejects a
// cluster if it knows none of the policies.
func (p *serviceTargets) setPolicy(c *clusterv3.Cluster) {
	switch child := p.policy.child.Config.(type) {
	case *serviceconfig.RingHash:
		if p.ring == nil {
			return
		}

		// grpc-js 1.14 rejects ring sizes in a list of policies
		c.LbPolicy = clusterv3.Cluster_RING_HASH
		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
			MinimumRingSize: wrapperspb.UInt64(cmp.Or(child.MinRingSize,
				serviceconfig.DefaultMinRingSize)),
			MaximumRingSize: wrapperspb.UInt64(cmp.Or(child.MaxRingSize,
				serviceconfig.DefaultMaxRingSize)),
		}}

	case *serviceconfig.PickFirst:
		// pick_first is not nested in a locality, where grpc-go would not
		// reconnect after it loses the connection.
		c.LoadBalancingPolicy = p.orRoundRobin(&pickfirstv3.PickFirst{
			ShuffleAddressList: child.ShuffleAddressList,
		})

	case *serviceconfig.LeastRequest:
		c.LoadBalancingPolicy = p.leastRequest(max(child.ChoiceCount,
			serviceconfig.DefaultChoiceCount))
	case *serviceconfig.PeakEwma:
		c.LoadBalancingPolicy = p.leastRequest(serviceconfig.DefaultChoiceCount)
	}
}

// leastRequest returns a policy that picks within each locality.
func (p *serviceTargets) leastRequest(choices uint32) *clusterv3.LoadBalancingPolicy {
	picks := p.orRoundRobin(&leastrequestv3.LeastRequest{
		ChoiceCount: wrapperspb.UInt32(choices),
	})

	return p.policies(&localityv3.WrrLocality{EndpointPickingPolicy: picks})
}

func (p *serviceTargets) orRoundRobin(
	config proto.Message,
) *clusterv3.LoadBalancingPolicy {
	return p.policies(config, &roundrobinv3.RoundRobin{})
}

func (p *serviceTargets) policies(
	configs ...proto.Message,
) *clusterv3.LoadBalancingPolicy {
	list := &clusterv3.LoadBalancingPolicy{}
	for _, config := range configs {
		list.Policies = append(
			list.Policies,
			&clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: &corev3.TypedExtensionConfig{
				Name: string(proto.MessageName(config)), TypedConfig: p.encode(config),
			}},
		)
	}

	return list
}

// outlierDetection returns the config of the policy outlier_detection, nil for
// none. Unset fields have the same defaults in gRPC and in xDS, except the
// enforcement percentages: see
// https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md.
func (p *serviceTargets) outlierDetection() *clusterv3.OutlierDetection {
	c := p.policy.outlier
	if c == nil {
		return nil
	}

	o := &clusterv3.OutlierDetection{
		Interval: duration(c.Interval), BaseEjectionTime: duration(c.BaseEjectionTime),
		MaxEjectionTime:            duration(c.MaxEjectionTime),
		MaxEjectionPercent:         number(c.MaxEjectionPercent),
		EnforcingSuccessRate:       wrapperspb.UInt32(0),
		EnforcingFailurePercentage: wrapperspb.UInt32(0),
	}
	if s := c.SuccessRate; s != nil {
		o.SuccessRateStdevFactor = number(
			s.StdevFactor)
		o.EnforcingSuccessRate = number(s.EnforcementPercentage)
		o.SuccessRateMinimumHosts = number(
			s.MinimumHosts)
		o.SuccessRateRequestVolume = number(s.RequestVolume)
	}

	if f := c.FailurePercentage; f != nil {
		o.FailurePercentageThreshold = number(f.Threshold)
		o.EnforcingFailurePercentage = cmp.Or(number(f.EnforcementPercentage),
			wrapperspb.UInt32(100))
		o.FailurePercentageMinimumHosts = number(
			f.MinimumHosts)
		o.FailurePercentageRequestVolume = number(f.RequestVolume)
	}

	return o
}

// number converts an optional number to its protobuf form.
func number(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}

	return wrapperspb.UInt32(*n)
}

// parseAddresses sets m.addresses. It skips host names, because a client
// rejects all endpoints of a cluster if one has a host name.
func (m *mapping) parseAddresses() {
	m.addresses = make([]netip.AddrPort, len(m.Endpoints))
	for i := range m.Endpoints {
		at, err := netip.ParseAddrPort(m.Endpoints[i].Addr)
		if err != nil {
			m.lacks("endpoints with a host name as their address: gRPC accepts only IP addresses in xDS, so clients do not call them")
			continue
		}

		// for gRPC-Java, ::ffff:10.0.0.7 is 10.0.0.7
		m.addresses[i] = netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
	}
}

// load returns the endpoints of a cluster by priority. Priorities have no gaps,
// which grpc-go rejects. Localities are not empty: an empty one crashes C core
// 1.51.
func (p *serviceTargets) load(name string, tiers [][]int) *Resource {
	load := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for priority, members := range tiers {
		load.Endpoints = append(load.Endpoints,
			p.localities(members, uint32(priority))...)
	}

	return p.resource(name, load)
}

// localities returns the localities of a priority, with names of their own:
// gRPC-Java knows only the last of those with one name, in whichever priority.
// All endpoints of a priority are in one locality, since implementations build
// rings of several localities differently. With the policy etcd_weighted each
// endpoint has its own locality, because gRPC uses the weights of localities
// and ignores those of endpoints: see grpc/grpc#32004.
func (p *serviceTargets) localities(
	members []int,
	priority uint32,
) (all []*endpointv3.LocalityLbEndpoints) {
	weights := make([]uint32, len(members))
	for n, i := range members {
		weights[n] = max(1, p.Endpoints[i].Weight)
	}

	weights = scaled(weights)

	byWeight := p.policy.child.Name == serviceconfig.WeightedName
	for n, i := range members {
		e := p.endpoint(i)
		name := strconv.Itoa(int(priority))
		weight := uint32(1)

		if byWeight {
			name = p.Endpoints[i].Addr
			weight = weights[n]
		} else if p.ring != nil {
			e.LoadBalancingWeight = wrapperspb.UInt32(weights[n])

			if p.Endpoints[i].Instance != p.Endpoints[i].Addr {
				p.lacks("instance ids other than the address: clients choose by the address for an affinity, and the runtime's clients by the id")
			}
		}

		if byWeight || all == nil {
			all = append(all, &endpointv3.LocalityLbEndpoints{
				Locality:            &corev3.Locality{SubZone: name},
				Priority:            priority,
				LoadBalancingWeight: wrapperspb.UInt32(weight),
			})
		}

		group := all[len(all)-1]
		group.LbEndpoints = append(group.LbEndpoints, e)
	}

	return all
}

func (p *serviceTargets) endpoint(i int) *endpointv3.LbEndpoint {
	at := p.addresses[i]

	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: at.Addr().String(),
				PortSpecifier: &corev3.SocketAddress_PortValue{
					PortValue: uint32(at.Port()),
				},
			}},
		}}},
	}
}
