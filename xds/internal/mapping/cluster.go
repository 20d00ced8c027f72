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
func (t *serviceTargets) addCluster(name string, tiers [][]int) {
	if t.clusters[name] != nil || t.err != nil {
		return
	}

	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{
			EdsConfig:   ads(),
			ServiceName: name,
		},
		OutlierDetection: t.outlierDetection(),

		// Without a threshold, clients limit a cluster to 1,024 concurrent
		// calls.
		CircuitBreakers: &clusterv3.CircuitBreakers{
			Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
				MaxRequests: wrapperspb.UInt32(math.MaxUint32),
			}},
		},
	}

	t.setPolicy(c)

	t.clusters[name] = t.resource(name, c)
	t.loads[name] = t.load(name, tiers)

	t.clusterBytes += proto.Size(t.clusters[name].Body)
	if t.clusterBytes > maxBytes {
		t.fail(errTooLarge)
	}
}

// setPolicy sets the policy that picks an endpoint of a cluster, round robin by
// default. A list of policies ends in round robin, because a client that knows
// none of the policies rejects the cluster.
func (t *serviceTargets) setPolicy(c *clusterv3.Cluster) {
	switch child := t.policy.child.Config.(type) {
	case *serviceconfig.RingHash:
		if t.ring == nil {
			return
		}

		// grpc-js 1.14 rejects ring sizes in a list of policies
		least := cmp.Or(child.MinRingSize, serviceconfig.DefaultMinRingSize)
		most := cmp.Or(child.MaxRingSize, serviceconfig.DefaultMaxRingSize)
		c.LbPolicy = clusterv3.Cluster_RING_HASH

		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{
			RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
				MinimumRingSize: wrapperspb.UInt64(least),
				MaximumRingSize: wrapperspb.UInt64(most),
			},
		}

	case *serviceconfig.PickFirst:
		// pick_first is not nested in a locality, where grpc-go would not
		// reconnect after it loses the connection.
		c.LoadBalancingPolicy = t.orRoundRobin(&pickfirstv3.PickFirst{
			ShuffleAddressList: child.ShuffleAddressList,
		})

	case *serviceconfig.LeastRequest:
		c.LoadBalancingPolicy = t.leastRequest(
			max(child.ChoiceCount, serviceconfig.DefaultChoiceCount))

	case *serviceconfig.PeakEwma:
		c.LoadBalancingPolicy = t.leastRequest(serviceconfig.DefaultChoiceCount)
	}
}

// leastRequest returns a policy that picks within each locality.
func (t *serviceTargets) leastRequest(choices uint32) *clusterv3.LoadBalancingPolicy {
	picks := t.orRoundRobin(&leastrequestv3.LeastRequest{
		ChoiceCount: wrapperspb.UInt32(choices),
	})

	return t.policies(&localityv3.WrrLocality{EndpointPickingPolicy: picks})
}

func (t *serviceTargets) orRoundRobin(
	config proto.Message,
) *clusterv3.LoadBalancingPolicy {
	return t.policies(config, &roundrobinv3.RoundRobin{})
}

func (t *serviceTargets) policies(
	configs ...proto.Message,
) *clusterv3.LoadBalancingPolicy {
	list := &clusterv3.LoadBalancingPolicy{}
	for _, config := range configs {
		extension := &corev3.TypedExtensionConfig{
			Name:        string(proto.MessageName(config)),
			TypedConfig: t.encode(config),
		}

		list.Policies = append(list.Policies,
			&clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: extension})
	}

	return list
}

// outlierDetection returns the config of the policy outlier_detection, nil for
// none. Unset fields have the same defaults in gRPC and in xDS, except the
// enforcement percentages: see
// https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md.
func (t *serviceTargets) outlierDetection() *clusterv3.OutlierDetection {
	c := t.policy.outlier
	if c == nil {
		return nil
	}

	o := &clusterv3.OutlierDetection{
		Interval:                   duration(c.Interval),
		BaseEjectionTime:           duration(c.BaseEjectionTime),
		MaxEjectionTime:            duration(c.MaxEjectionTime),
		MaxEjectionPercent:         number(c.MaxEjectionPercent),
		EnforcingSuccessRate:       wrapperspb.UInt32(0),
		EnforcingFailurePercentage: wrapperspb.UInt32(0),
	}
	if s := c.SuccessRate; s != nil {
		o.SuccessRateStdevFactor = number(s.StdevFactor)
		o.EnforcingSuccessRate = number(s.EnforcementPercentage)
		o.SuccessRateMinimumHosts = number(s.MinimumHosts)
		o.SuccessRateRequestVolume = number(s.RequestVolume)
	}

	if f := c.FailurePercentage; f != nil {
		o.FailurePercentageThreshold = number(f.Threshold)
		o.EnforcingFailurePercentage = cmp.Or(number(f.EnforcementPercentage),
			wrapperspb.UInt32(100))
		o.FailurePercentageMinimumHosts = number(f.MinimumHosts)
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

// load returns the endpoints of a cluster by priority. Priorities have no gaps:
// grpc-go rejects gaps. Localities are not empty: an empty locality crashes C
// core 1.51.
func (t *serviceTargets) load(name string, tiers [][]int) *Resource {
	load := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for priority, members := range tiers {
		load.Endpoints = append(load.Endpoints,
			t.localities(members, uint32(priority))...)
	}

	return t.resource(name, load)
}

// localities returns the localities of a priority.
//
// All endpoints of a priority are in one locality, because implementations
// build rings of several localities differently. With the policy etcd_weighted,
// each endpoint has its own locality, because gRPC uses the weights of
// localities and ignores those of endpoints: see grpc/grpc#32004.
//
// No two localities of a cluster have the same name, in any priorities:
// gRPC-Java would use only the last.
func (t *serviceTargets) localities(
	members []int,
	priority uint32,
) (all []*endpointv3.LocalityLbEndpoints) {
	weights := make([]uint32, len(members))
	for n, i := range members {
		weights[n] = max(1, t.Endpoints[i].Weight)
	}

	weights = scaled(weights)
	byWeight := t.policy.child.Name == serviceconfig.WeightedName

	for n, i := range members {
		e := t.endpoint(i)
		name := strconv.Itoa(int(priority))
		weight := uint32(1)

		if byWeight {
			name = t.Endpoints[i].Addr
			weight = weights[n]
		} else if t.ring != nil {
			e.LoadBalancingWeight = wrapperspb.UInt32(weights[n])

			if t.Endpoints[i].Instance != t.Endpoints[i].Addr {
				t.lacks("instance ids other than the address: clients choose by the address for an affinity, and the runtime's clients by the id")
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

func (t *serviceTargets) endpoint(i int) *endpointv3.LbEndpoint {
	at := t.addresses[i]
	port := &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())}
	address := &corev3.Address{
		Address: &corev3.Address_SocketAddress{
			SocketAddress: &corev3.SocketAddress{
				Address:       at.Addr().String(),
				PortSpecifier: port,
			},
		},
	}

	return &endpointv3.LbEndpoint{
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{
			Endpoint: &endpointv3.Endpoint{Address: address},
		},
	}
}
