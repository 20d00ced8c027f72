package mapping

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Substitute returns a cluster that replaces a removed one, and its endpoints. Both are those of the base under the removed name.
// A client that reconnects asks for the clusters of its old routes, and would fail their calls without a substitute.
func (s *Snapshot) Substitute(name string) (cluster, load *Resource) {
	c, l := new(clusterv3.Cluster), new(endpointv3.ClusterLoadAssignment)
	if s.Clusters[s.base].Body.UnmarshalTo(c) != nil || s.Loads[s.base].Body.UnmarshalTo(l) != nil {
		return nil, nil
	}
	c.Name, c.EdsClusterConfig.ServiceName, l.ClusterName = name, name, name
	cluster, err := newResource(name, c)
	load, errLoad := newResource(name, l)
	if err != nil || errLoad != nil {
		return nil, nil
	}
	return cluster, load
}

// Detour returns temporary routes for a client that reconnects, whose current routes are unknown. asked are the clusters that it
// asks for and has. In the temporary routes, calls to other clusters go to a cluster of the base. Calls in strict lanes and to the
// leader must not go there, and fail until the client knows their clusters. Detour returns nil if the client knows all clusters of
// the next routes, or no cluster of the base.
func Detour(asked []string, next *Resource) (*Resource, error) {
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
		if known == nil && !strings.Contains(clusters[0].GetName(), onlyMark) {
			known = []share{{asked[base], 1}}
		}
		if known != nil {
			route.GetRoute().ClusterSpecifier = weighted(known)
		}
	}
	return routeResource(config)
}

// isBase reports whether a cluster is for calls without a lane.
func isBase(cluster string) bool {
	return !strings.Contains(cluster, laneMark) && !strings.Contains(cluster, onlyMark)
}

// AddUpcoming returns routes with an additional route, which matches no call, to the clusters that are in next and not in
// routes. It returns nil if there are none. grpc-go applies new routes before it configures its balancer, so it would fail calls
// to an unknown cluster for a moment. With the additional route it receives the clusters first.
func AddUpcoming(routes, next *Resource) (*Resource, error) {
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
	host.Routes = append(host.Routes, &routev3.Route{ // after the route that matches every call
		Match: path{service: "etcdrpc.announced"}.match(), Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: weighted(added)}},
	})
	return routeResource(config)
}
