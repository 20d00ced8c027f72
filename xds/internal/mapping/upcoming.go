package mapping

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Substitute returns a copy of the base's cluster or of its endpoints, under
// the name of a removed cluster. of is s.Clusters or s.Loads. A client that
// reconnects asks for the clusters in its old routes; without the copy, its
// calls to the removed cluster would fail. Substitute returns nil for a cluster
// without fallback: its calls fail.
func (s *Snapshot) Substitute(name string, of map[string]*Resource) *Resource {
	message, err := of[s.base].Body.UnmarshalNew()
	if err != nil || strings.Contains(name, onlyMark) {
		return nil
	}

	switch m := message.(type) {
	case *clusterv3.Cluster:
		m.Name = name
		m.EdsClusterConfig.ServiceName = name
	case *endpointv3.ClusterLoadAssignment:
		m.ClusterName = name
	}

	r, err := newResource(name, message)
	if err != nil {
		return nil
	}

	return r
}

// changed returns a copy of routes after a change, nil if they cannot be
// decoded or encoded.
func (r *Resource) changed(change func(*routev3.VirtualHost)) *Resource {
	config := new(routev3.RouteConfiguration)
	if r.Body.UnmarshalTo(config) != nil {
		return nil
	}

	change(config.GetVirtualHosts()[0])

	routes, err := routeResource(config)
	if err != nil {
		return nil
	}

	return routes
}

// Detour returns temporary routes for a client that has reconnected, whose
// current routes are unknown. The client knows the clusters in asked. In the
// temporary routes, calls to other clusters go to a cluster of the base. But
// calls in strict lanes and to the leader fail until the client knows their
// clusters. Detour returns nil if the client knows all clusters in next, or no
// cluster of the base.
func Detour(asked []string, next *Resource) *Resource {
	unknown := func(cluster string) bool { return !slices.Contains(asked, cluster) }
	base := slices.IndexFunc(asked, func(cluster string) bool {
		return !strings.Contains(cluster, laneMark) &&
			!strings.Contains(cluster, onlyMark)
	})
	if base < 0 || !slices.ContainsFunc(next.Clusters, unknown) {
		return nil
	}

	return next.changed(func(host *routev3.VirtualHost) {
		for _, route := range host.GetRoutes() {
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
	})
}

// AddUpcoming returns a copy of routes with one more route, which matches no
// call. That route names the clusters that are in next and not in routes;
// without such clusters, AddUpcoming returns nil. grpc-go applies new routes
// before it configures its balancer, so calls to an unknown cluster would fail
// for a moment. Because of the added route, grpc-go receives the clusters
// first.
func AddUpcoming(routes, next *Resource) *Resource {
	var added []share
	for _, name := range next.Clusters {
		if !slices.Contains(routes.Clusters, name) {
			added = append(added, share{name, 1})
		}
	}

	if added == nil {
		return nil
	}

	return routes.changed(func(host *routev3.VirtualHost) {
		// after the route that matches every call
		host.Routes = append(host.Routes, &routev3.Route{
			Match: path{service: "etcdrpc.announced"}.match(),
			Action: &routev3.Route_Route{
				Route: &routev3.RouteAction{ClusterSpecifier: weighted(added)},
			},
		})
	})
}
