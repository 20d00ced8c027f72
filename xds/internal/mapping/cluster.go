package mapping

import (
	"cmp"
	"math"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	wrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	pickfirstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/pick_first/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	localityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// addCluster makes the cluster of some endpoints, once.
func (p *plan) addCluster(name string, members []int) {
	if p.clusters[name] != nil {
		return
	}
	c := &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name},
		OutlierDetection: p.outlierDetection(),
		// gRPC lets 1,024 calls at a time through where nothing is said.
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(math.MaxUint32)}}},
	}
	p.setPolicy(c)
	p.keep(p.resource(name, c))
	p.loads[name] = p.resource(name, p.load(name, members))
	if len(p.loads[name].Body.GetValue()) > maxBytes {
		p.loads[name] = p.resource(name, p.load(name, p.first(members)))
	}
}

// keep takes in a cluster.
func (m *mapping) keep(r *Resource) {
	m.clusters[r.Name] = r
	m.names = append(m.names, r.Name)
	m.bytes += proto.Size(r.Body)
}

// aggregateMark is in the names of aggregates, which routes alone name.
const aggregateMark = "/or="

// IsAggregate reports whether the name of a cluster is that of an aggregate.
func IsAggregate(name string) bool { return strings.Contains(name, aggregateMark) }

// aggregate returns the cluster whose calls go to the first of several clusters that can take them. It is named after the
// first, with which it comes and goes, and served, which tells chains with the same first apart.
func (p *plan) aggregate(chain []string, served string) string {
	if len(chain) == 1 && p.placed == nil && len(p.policy.etcd.Split) == 0 {
		return chain[0] // as it will be with other endpoints
	}
	name := chain[0] + aggregateMark + cmp.Or(served, "others")
	if p.clusters[name] == nil {
		c := &clusterv3.Cluster{Name: name}
		p.setPolicy(c)
		p.keep(p.aggregateOf(c, chain))
	}
	return name
}

// Substitute returns a cluster for a name that the host has no cluster of, nil if the name is none of a cluster: its calls go
// where those do that nothing is said of. A client asks for such a name that knows it from before the server began.
func (s *Snapshot) Substitute(name string) *Resource {
	m := &mapping{}
	usual, chain := new(clusterv3.Cluster), s.Clusters[s.Usual].Clusters
	m.fail(s.Clusters[s.Usual].Body.UnmarshalTo(usual))
	if chain == nil {
		chain = []string{s.Usual}
	}
	r := m.aggregateOf(&clusterv3.Cluster{
		Name: name, LbPolicy: usual.LbPolicy, LbConfig: usual.LbConfig, LoadBalancingPolicy: usual.LoadBalancingPolicy,
	}, chain)
	if name == "" || m.err != nil {
		return nil
	}
	return r
}

// aggregateOf makes a cluster, whose policy is set, one whose calls go to the first of others that can take them. Its policy picks
// in each of these: some clients go by it, such as grpc-go, and some by those of the others.
func (m *mapping) aggregateOf(c *clusterv3.Cluster, chain []string) *Resource {
	c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.aggregate", TypedConfig: m.encode(&aggregatev3.ClusterConfig{Clusters: chain}),
	}}
	r := m.resource(c.Name, c)
	r.Clusters = chain
	return r
}

// setPolicy says how endpoints are picked in a cluster. A list of policies ends in round robin, for a client gives up a
// cluster whose policies it does not know.
func (p *plan) setPolicy(c *clusterv3.Cluster) {
	c.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	switch child := p.policy.child.Config.(type) {
	case *serviceconfig.RingHash:
		if p.ring == nil {
			return
		}
		c.LbPolicy = clusterv3.Cluster_RING_HASH
		c.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
			MinimumRingSize: wrapperspb.UInt64(cmp.Or(child.MinRingSize, serviceconfig.DefaultMinRingSize)),
			MaximumRingSize: wrapperspb.UInt64(cmp.Or(child.MaxRingSize, serviceconfig.DefaultMaxRingSize)),
		}}
	case *serviceconfig.LeastRequest:
		choices := max(child.ChoiceCount, serviceconfig.DefaultChoiceCount)
		p.setPolicies(c, "least_request", &leastrequestv3.LeastRequest{ChoiceCount: wrapperspb.UInt32(choices)})
	case *serviceconfig.PickFirst:
		// Not within a locality: there grpc-go does not connect again when the connection is lost.
		c.LoadBalancingPolicy = p.policies(namedPolicy{"pick_first", &pickfirstv3.PickFirst{ShuffleAddressList: child.ShuffleAddressList}},
			namedPolicy{"round_robin", &roundrobinv3.RoundRobin{}})
	case *serviceconfig.WeightedRoundRobin:
		p.setPolicies(c, "client_side_weighted_round_robin", byLoad(child))
	default:
		if p.policy.child.Name == serviceconfig.PeakEwmaName {
			p.setPolicies(c, "least_request", &leastrequestv3.LeastRequest{ChoiceCount: wrapperspb.UInt32(serviceconfig.DefaultChoiceCount)})
		}
	}
}

// setPolicies has a policy pick within each locality, and round robin where a client does not know it.
func (p *plan) setPolicies(c *clusterv3.Cluster, name string, config proto.Message) {
	c.LoadBalancingPolicy = p.policies(namedPolicy{"wrr_locality", &localityv3.WrrLocality{
		EndpointPickingPolicy: p.policies(namedPolicy{name, config}, namedPolicy{"round_robin", &roundrobinv3.RoundRobin{}}),
	}})
}

// namedPolicy is a policy of xDS with its config.
type namedPolicy struct {
	name   string
	config proto.Message
}

func (p *plan) policies(all ...namedPolicy) *clusterv3.LoadBalancingPolicy {
	list := &clusterv3.LoadBalancingPolicy{}
	for _, policy := range all {
		list.Policies = append(list.Policies, &clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: &corev3.TypedExtensionConfig{
			Name: "envoy.load_balancing_policies." + policy.name, TypedConfig: p.encode(policy.config),
		}})
	}
	return list
}

// byLoad is weighted_round_robin by the load that endpoints report.
func byLoad(c *serviceconfig.WeightedRoundRobin) *wrrv3.ClientSideWeightedRoundRobin {
	m := &wrrv3.ClientSideWeightedRoundRobin{
		OobReportingPeriod: optionalDuration(c.OOBReportingPeriod), BlackoutPeriod: optionalDuration(c.BlackoutPeriod),
		WeightExpirationPeriod: optionalDuration(c.WeightExpirationPeriod), WeightUpdatePeriod: optionalDuration(c.WeightUpdatePeriod),
	}
	if c.EnableOOBLoadReport != nil {
		m.EnableOobLoadReport = wrapperspb.Bool(*c.EnableOOBLoadReport)
	}
	if c.ErrorUtilizationPenalty != nil {
		m.ErrorUtilizationPenalty = wrapperspb.Float(float32(min(*c.ErrorUtilizationPenalty, math.MaxFloat32)))
	}
	return m
}

func optionalDuration(d *serviceconfig.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return duration(*d)
}

// outlierDetection says what gRPC's policy of that name is configured with. What is left out has the policy's own default in xDS, too, except
// how many endpoints that fail are ejected, see https://github.com/grpc/proposal/blob/master/A50-xds-outlier-detection.md.
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

// number returns a number, nil for none.
func number(n *uint32) *wrapperspb.UInt32Value {
	if n == nil {
		return nil
	}
	return wrapperspb.UInt32(*n)
}
