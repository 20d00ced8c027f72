package mapping

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// IsAggregate reports whether a name is that of an aggregate. Only routes refer to aggregates.
func IsAggregate(cluster string) bool { return strings.HasSuffix(cluster, aggregateMark) }

// IsBase reports whether a name is that of a cluster for calls without a lane.
func IsBase(cluster string) bool {
	return !strings.Contains(cluster, laneMark) && !strings.HasSuffix(cluster, leader) && !strings.HasSuffix(cluster, nobody)
}

// Substitute returns a cluster that replaces a removed one. A client that reconnects asks for the clusters of its old routes, and would fail
// their calls. The substitute has the endpoints of the base and the old type, so it needs no other cluster that the client may not have. It
// returns nil if it cannot make one.
func (s *Snapshot) Substitute(name string) *Resource {
	c := proto.Clone(s.cluster).(*clusterv3.Cluster)
	c.Name, c.EdsClusterConfig.ServiceName = name, name
	if leaf, is := strings.CutSuffix(name, aggregateMark); is {
		c = &clusterv3.Cluster{Name: name, LbPolicy: c.LbPolicy, LbConfig: c.LbConfig, LoadBalancingPolicy: c.LoadBalancingPolicy}
		return orNil(newAggregate(c, []string{leaf}))
	}
	return orNil(newResource(name, c))
}

// SubstituteLoad returns the endpoints of a substitute.
func (s *Snapshot) SubstituteLoad(name string) *Resource {
	load := proto.Clone(s.load).(*endpointv3.ClusterLoadAssignment)
	load.ClusterName = name
	return orNil(newResource(name, load))
}

// orNil returns nil for an error, which names that are not valid UTF-8 cause.
func orNil(r *Resource, err error) *Resource {
	if err != nil {
		return nil
	}
	return r
}

// Detour returns next for a client that does not know all its clusters: calls to unknown clusters go to another cluster. Calls
// that must not go elsewhere, those of strict lanes and to the leader, fail until the client knows their clusters.
func Detour(next *Resource, by string, knows func(cluster string) bool) (*Resource, error) {
	config := new(routev3.RouteConfiguration)
	if err := next.Body.UnmarshalTo(config); err != nil {
		return nil, err
	}
	for _, route := range config.GetVirtualHosts()[0].GetRoutes() {
		action, names := route.GetRoute(), clustersOf(route.GetRoute())
		known := slices.ContainsFunc(names, knows)
		if w := action.GetWeightedClusters(); w != nil && known {
			w.Clusters = slices.DeleteFunc(w.Clusters, func(c *routev3.WeightedCluster_ClusterWeight) bool { return !knows(c.GetName()) })
		} else if !known && next.shared[names[0]] {
			action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: by}
		}
	}
	return routeResource(config)
}

// Announce returns routes with one more, which matches no call, to the clusters that next names and routes does not; nil if there are none.
// grpc-go fails calls for a moment after it receives routes to a cluster that it does not know: it applies new routes before it
// configures its balancer. So it must receive the clusters first.
func Announce(routes, next *Resource) (*Resource, error) {
	var added []share
	for _, name := range next.Clusters {
		if !slices.Contains(routes.Clusters, name) {
			added = append(added, share{name, 1})
		}
	}
	if added == nil {
		return nil, nil
	}
	config := new(routev3.RouteConfiguration)
	if err := routes.Body.UnmarshalTo(config); err != nil {
		return nil, err
	}
	host := config.GetVirtualHosts()[0]
	host.Routes = append(host.Routes, &routev3.Route{ // after the one that matches every call
		Match: path{service: "etcdrpc.announced"}.match(), Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: weighted(added)}},
	})
	return routeResource(config)
}
