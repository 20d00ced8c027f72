package mapping

import (
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// Substitute returns a copy of the base's resource under the name of a removed
// cluster. of is s.Clusters or s.Loads, and has the base's resource. A client
// that reconnects asks for the clusters in its old routes. Its calls to a
// removed cluster go to the copy until the client has new routes. Substitute
// returns nil for a cluster without fallback: calls to such a cluster fail.
func (s *Snapshot) Substitute(name string, of map[string]*Resource) *Resource {
	message, err := of[s.base].Body.UnmarshalNew()
	if err != nil || strings.Contains(name, onlyPart) {
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

	change(config.VirtualHosts[0])

	routes, err := routeResource(config)
	if err != nil {
		return nil
	}

	return routes
}

// Detour returns the routes next with only the clusters that the client knows:
// those in asked. It is for a client that has reconnected, whose current routes
// are unknown.
//
// If the client knows no cluster of a route, the route leads to a cluster of
// the base. But calls in strict lanes and to the leader must not reach the
// base: their routes stay, and the calls fail until the client knows their
// clusters.
//
// Detour returns nil if the client knows all clusters in next, or none of the
// base.
func Detour(asked []string, next *Resource) *Resource {
	isUnknown := func(cluster string) bool { return !slices.Contains(asked, cluster) }
	isBase := func(cluster string) bool {
		return !strings.Contains(cluster, lanePart) &&
			!strings.Contains(cluster, onlyPart)
	}

	base := slices.IndexFunc(asked, isBase)
	if base < 0 || !slices.ContainsFunc(next.Clusters, isUnknown) {
		return nil
	}

	return next.changed(func(host *routev3.VirtualHost) {
		for _, route := range host.Routes {
			var known []share

			clusters := route.GetRoute().GetWeightedClusters().GetClusters()
			for _, c := range clusters {
				if !isUnknown(c.Name) {
					known = append(known, share{c.Name, c.Weight.Value})
				}
			}

			if known == nil && !strings.Contains(clusters[0].Name, onlyPart) {
				known = []share{{asked[base], 1}}
			}

			if known != nil {
				route.GetRoute().ClusterSpecifier = weighted(known)
			}
		}
	})
}

// AddUpcoming returns a copy of routes with one more route, which matches no
// call and names the clusters that are only in next. It returns nil if next has
// no such cluster. Because of the added route, grpc-go asks for these clusters
// before calls go to them. Otherwise such calls would fail for a moment:
// grpc-go applies new routes before it configures its balancer.
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
