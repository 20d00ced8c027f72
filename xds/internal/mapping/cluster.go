package mapping

import (
	"cmp"
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	pickfirstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/pick_first/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	localityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// addCluster makes a cluster of some endpoints, by priority, once.
func (p *plan) addCluster(name string, tiers [][]int) {
	if p.clusters[name] != nil || p.err != nil {
		return
	}
	c := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name},
		OutlierDetection: p.outlierDetection(),
		// The default is 1,024 concurrent calls.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(math.MaxUint32)}}},
	}
	p.setPolicy(c)
	p.clusters[name], p.loads[name] = p.resource(name, c), p.load(name, tiers)
	if p.clusterBytes += proto.Size(p.clusters[name].Body); p.clusterBytes > maxBytes {
		p.fail(errTooLarge)
	}
}

// setPolicy sets the policy that picks an endpoint of a cluster, round robin by default. A list of policies ends in round robin, because a
// client rejects a cluster whose policies are all unknown to it.
func (p *plan) setPolicy(c *clusterv3.Cluster) {
	switch child := p.policy.child.Config.(type) {
	case *serviceconfig.RingHash:
		if p.ring == nil {
			return
		}
		c.LbPolicy = clusterv3.Cluster_RING_HASH // in a list, grpc-js 1.14 rejects sizes
		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
			MinimumRingSize: wrapperspb.UInt64(cmp.Or(child.MinRingSize, serviceconfig.DefaultMinRingSize)),
			MaximumRingSize: wrapperspb.UInt64(cmp.Or(child.MaxRingSize, serviceconfig.DefaultMaxRingSize)),
		}}
	case *serviceconfig.PickFirst:
		// Not within a locality: grpc-go would not reconnect after it loses the connection.
		c.LoadBalancingPolicy = p.orRoundRobin(&pickfirstv3.PickFirst{ShuffleAddressList: child.ShuffleAddressList})
	case *serviceconfig.LeastRequest:
		c.LoadBalancingPolicy = p.leastRequest(max(child.ChoiceCount, serviceconfig.DefaultChoiceCount))
	default:
		if p.policy.child.Name == serviceconfig.PeakEwmaName {
			c.LoadBalancingPolicy = p.leastRequest(serviceconfig.DefaultChoiceCount)
		}
	}
}

// leastRequest returns a policy that picks within each locality.
func (p *plan) leastRequest(choices uint32) *clusterv3.LoadBalancingPolicy {
	picks := p.orRoundRobin(&leastrequestv3.LeastRequest{ChoiceCount: wrapperspb.UInt32(choices)})
	return p.policies(&localityv3.WrrLocality{EndpointPickingPolicy: picks})
}

func (p *plan) orRoundRobin(config proto.Message) *clusterv3.LoadBalancingPolicy {
	return p.policies(config, &roundrobinv3.RoundRobin{})
}

func (p *plan) policies(configs ...proto.Message) *clusterv3.LoadBalancingPolicy {
	list := &clusterv3.LoadBalancingPolicy{}
	for _, config := range configs {
		list.Policies = append(list.Policies, &clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: &corev3.TypedExtensionConfig{
			Name: string(proto.MessageName(config)), TypedConfig: p.encode(config),
		}})
	}
	return list
}

func optionalDuration(d *serviceconfig.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return duration(*d)
}

// outlierDetection returns the config of gRPC's policy of that name, nil for none. Unset fields have the same defaults in xDS, except the
// enforcement percentages, see https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md.
func (p *plan) outlierDetection() *clusterv3.OutlierDetection {
	c := p.policy.outlier
	if c == nil {
		return nil
	}
	o := &clusterv3.OutlierDetection{
		Interval: optionalDuration(c.Interval), BaseEjectionTime: optionalDuration(c.BaseEjectionTime),
		MaxEjectionTime: optionalDuration(c.MaxEjectionTime), MaxEjectionPercent: number(c.MaxEjectionPercent),
		EnforcingSuccessRate: wrapperspb.UInt32(0), EnforcingFailurePercentage: wrapperspb.UInt32(0),
	}
	if s := c.SuccessRate; s != nil {
		o.SuccessRateStdevFactor, o.EnforcingSuccessRate = number(s.StdevFactor), number(s.EnforcementPercentage)
		o.SuccessRateMinimumHosts, o.SuccessRateRequestVolume = number(s.MinimumHosts), number(s.RequestVolume)
	}
	if f := c.FailurePercentage; f != nil {
		o.FailurePercentageThreshold = number(f.Threshold)
		o.EnforcingFailurePercentage = cmp.Or(number(f.EnforcementPercentage), wrapperspb.UInt32(100))
		o.FailurePercentageMinimumHosts, o.FailurePercentageRequestVolume = number(f.MinimumHosts), number(f.RequestVolume)
	}
	return o
}

// number wraps an optional number.
func number(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(*n)
}
