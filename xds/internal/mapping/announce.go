package mapping

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// Substitute returns a cluster that replaces a removed one. A client that reconnects asks for the clusters of its old routes, and would fail
// their calls. The substitute has the endpoints of the base's greatest group and the old type, so it needs no other cluster that the client
// may not have. It returns nil if it cannot make one.
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
	load := new(endpointv3.ClusterLoadAssignment)
	if err := s.load.Body.UnmarshalTo(load); err != nil {
		return nil
	}
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

// Detour returns the next routes for a client that reconnects, whose current routes are unknown. asked are the clusters that it asks for,
// which it has. Calls to other clusters go to one of the base. Calls that must not go there, those of strict lanes and to the leader, fail
// until the client knows their clusters. Detour returns nil if the client knows all clusters of the next routes, or none of the base.
func Detour(asked []string, next *Resource) (*Resource, error) {
	// A client with aggregates may know other clusters only as parts of them. Only routes refer to aggregates.
	isAggregate := func(cluster string) bool { return strings.HasSuffix(cluster, aggregateMark) }
	if slices.ContainsFunc(asked, isAggregate) {
		asked = slices.DeleteFunc(slices.Clone(asked), func(cluster string) bool { return !isAggregate(cluster) })
	}
	unknown := func(cluster string) bool { return !slices.Contains(asked, cluster) }
	base := slices.IndexFunc(asked, isBase)
	if base < 0 || !slices.ContainsFunc(next.Clusters, unknown) {
		return nil, nil
	}
	config := new(routev3.RouteConfiguration)
	if err := next.Body.UnmarshalTo(config); err != nil {
		return nil, err
	}
	for _, route := range config.GetVirtualHosts()[0].GetRoutes() {
		var known []share
		clusters := route.GetRoute().GetWeightedClusters().GetClusters()
		for _, c := range clusters {
			if !unknown(c.GetName()) {
				known = append(known, share{c.GetName(), c.GetWeight().GetValue()})
			}
		}
		if known == nil && next.shared[clusters[0].GetName()] {
			known = []share{{asked[base], 1}}
		}
		if known != nil {
			route.GetRoute().ClusterSpecifier = weighted(known)
		}
	}
	return routeResource(config)
}

// isBase reports whether a name is that of a cluster for calls without a lane.
func isBase(cluster string) bool {
	return !strings.Contains(cluster, laneMark) && !strings.HasSuffix(cluster, leader) && !strings.HasSuffix(cluster, nobody)
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
