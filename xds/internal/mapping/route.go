package mapping

import (
	"cmp"
	"fmt"
	"maps"
	"math/bits"
	"net/url"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// path names the methods that a route matches: one method, all methods of a
// service if method is empty, or all methods if both are empty.
type path struct{ service, method string }

// routes returns the routes of the host. Routes of a method come before routes
// of its service, and routes of every call come last. For each path, routes of
// lanes come before those of the base.
func (m *mapping) routes() *Resource {
	owners := make(map[path]*serviceTargets)
	for _, p := range m.plans {
		for _, at := range p.paths() {
			owners[at] = p
		}
	}

	paths := slices.SortedFunc(maps.Keys(owners), func(a, b path) int {
		// "" comes last
		return cmp.Or(strings.Compare(b.method, a.method),
			strings.Compare(b.service, a.service))
	})

	host := &routev3.VirtualHost{Name: m.Authority, Domains: []string{"*"}}

	bytes := 0
	for _, at := range paths {
		for _, r := range owners[at].routesOf(at) {
			host.Routes = append(host.Routes, r)
			bytes += proto.Size(r)
		}

		if m.err != nil || bytes > maxBytes || len(host.Routes) > maxRoutes {
			m.fail(errTooLarge)
			return nil
		}
	}

	r, err := routeResource(&routev3.RouteConfiguration{
		Name:         m.Authority,
		VirtualHosts: []*routev3.VirtualHost{host},
	})

	m.fail(err)

	return r
}

func routeResource(config *routev3.RouteConfiguration) (*Resource, error) {
	r, err := newResource(config.GetName(), config)
	for _, route := range config.GetVirtualHosts()[0].GetRoutes() {
		r.Clusters = append(r.Clusters, clustersOf(route.GetRoute())...)
	}

	slices.Sort(r.Clusters)
	r.Clusters = slices.Compact(r.Clusters)

	return r, err
}

// clustersOf returns the clusters that a route names.
func clustersOf(action *routev3.RouteAction) (names []string) {
	for _, c := range action.GetWeightedClusters().GetClusters() {
		names = append(names, c.GetName())
	}

	return names
}

func (p path) match() *routev3.RouteMatch {
	switch {
	case p.method != "":
		return &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_Path{Path: p.full()},
		}

	case p.service != "":
		return &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + p.service + "/"},
		}
	}

	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}}
}

// full returns the full name of the method, as in the :path header.
func (p path) full() string {
	return "/" + p.service + "/" + p.method
}

// paths returns the paths that need routes: those that the service config
// names, and those for the leader. The first service of a host also takes all
// calls that match no other path.
func (p *serviceTargets) paths() []path {
	all := slices.Collect(maps.Keys(p.policy.methods))
	for _, method := range p.service.Leading {
		service, name := methods.Split(method)
		all = append(all, path{service, name})
	}

	// paths to which the policy of another service of the host applies
	all = slices.DeleteFunc(all, func(at path) bool {
		return p.service != &p.Services[max(0, slices.IndexFunc(p.Services,
			func(s Service) bool { return s.Name == at.service }))]
	})
	if p.service == &p.Services[0] {
		return append(all, path{})
	}

	return append(all, path{service: p.service.Name})
}

// target has the clusters that calls with certain headers go to.
type target struct {
	headers []*routev3.HeaderMatcher
	to      []share
}

// share is a cluster, and the weight of its share of the calls.
type share struct {
	cluster string
	weight  uint32
}

// setTargets sets the targets of the service. All methods have the same
// targets, except the leader's methods.
func (p *serviceTargets) setTargets() {
	p.closed = p.policy.etcd.Strict("")
	lanes := p.lanes()
	p.spare = maxSpare / ((len(lanes) + 1) * (len(p.policy.etcd.Split) + 1))
	base := p.destination(p.base, nil)

	toLanes := make([][]share, len(lanes))
	for i, s := range lanes {
		toLanes[i] = base
		if s.strict {
			toLanes[i] = p.destination(s, nil)
		} else if !s.isEmpty() {
			toLanes[i] = p.destination(s, p.base)
		}
	}

	add := func(to []share, headers ...*routev3.HeaderMatcher) {
		p.targets = append(p.targets, target{headers, to})
	}
	addLanes := func(header string, others ...*routev3.HeaderMatcher) {
		for i, s := range lanes {
			add(toLanes[i], append(others, exactly(header, s.lane))...)
		}

		if p.closed {
			// any valid name of a lane, by the rule of serviceconfig.ValidLane
			lane := &matcherv3.RegexMatcher{
				Regex: fmt.Sprintf("[-_.:/0-9A-Za-z]{1,%d}", serviceconfig.MaxLane),
			}
			match := &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: lane} //nolint:staticcheck // as in exactly
			add(p.single(nobody, nil),
				&routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: match})
		}
	}

	addLanes(serviceconfig.LaneHeader)

	if header := p.policy.etcd.LaneHeader; header != "" && (len(lanes) > 0 || p.closed) {
		// A lane that the caller set itself takes precedence, even if it is
		// unknown.
		add(base, present(serviceconfig.LaneHeader, true))
		addLanes(header, present(serviceconfig.LaneHeader, false))
	}

	add(base)
}

// single adds a cluster, and returns it as the only share of a target.
func (p *serviceTargets) single(name string, tiers [][]int) []share {
	p.addCluster(p.prefix+name, tiers)
	return []share{{p.prefix + name, 1}}
}

// toLeader returns the cluster of the leader, drained or not. Without a leader,
// calls fail: an xDS client cannot wait for a leader.
func (p *serviceTargets) toLeader() []share {
	var tiers [][]int
	for i := range p.Endpoints {
		if p.Endpoints[i].Instance == p.Leader && p.addresses[i].IsValid() {
			tiers = [][]int{{i}}
		}
	}

	p.lacks("calls to the leader carry no token, and fail with UNAVAILABLE while there is no leader")

	return p.single(leader, tiers)
}

// routesOf returns the routes of a path: first the routes of lanes, last the
// route of all other calls.
func (p *serviceTargets) routesOf(at path) (routes []*routev3.Route) {
	targets := p.targets
	if slices.Contains(p.service.Leading, at.full()) {
		targets = []target{{to: p.toLeader()}}
	}

	for _, t := range targets {
		routes = append(routes, p.route(at, t))
	}

	return routes
}

// route returns the route that sends the calls of a path to a target, with the
// service config's options for the path.
func (p *serviceTargets) route(at path, t target) *routev3.Route {
	match := at.match()
	match.Headers = t.headers
	action := &routev3.RouteAction{ClusterSpecifier: weighted(t.to)}

	if p.ring != nil {
		header := &routev3.RouteAction_HashPolicy_Header{
			HeaderName: p.ring.RequestHashHeader,
		}
		action.HashPolicy = []*routev3.RouteAction_HashPolicy{
			{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{Header: header}}}
	}

	// The most specific config applies, as in gRPC.
	method := cmp.Or(p.policy.methods[at], p.policy.methods[path{service: at.service}],
		p.policy.methods[path{}])
	if method != nil {
		if method.Timeout != nil {
			action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{
				MaxStreamDuration: duration(method.Timeout),
			}
		}

		action.RetryPolicy = p.retryPolicy(method.Retry)
	}

	return &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: action}}
}

// weighted sends calls to clusters by their weights. It sets a deprecated
// field, the sum: gRPC's C core, in versions such as 1.51, assumes 100
// otherwise, and rejects routes whose weights have another sum.
func weighted(to []share) *routev3.RouteAction_WeightedClusters {
	all := &routev3.WeightedCluster{}
	sum := uint32(0)
	for _, s := range to {
		sum += s.weight
		all.Clusters = append(all.Clusters, &routev3.WeightedCluster_ClusterWeight{
			Name:   s.cluster,
			Weight: wrapperspb.UInt32(s.weight),
		})
	}

	all.TotalWeight = wrapperspb.UInt32(sum) //nolint:staticcheck // see above

	return &routev3.RouteAction_WeightedClusters{WeightedClusters: all}
}

// exactly matches a header's value. It uses a deprecated field, because gRPC's
// C core supports string_match only since 1.56.
func exactly(header, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: header,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{
			ExactMatch: value, //nolint:staticcheck // see above
		},
	}
}

// present matches calls that have a header or, if want is false, calls without
// it.
func present(header string, want bool) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 header,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		InvertMatch:          !want,
	}
}

func duration(d *serviceconfig.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}

	return durationpb.New(time.Duration(*d))
}

// retried has the status codes after which gRPC's xDS clients can retry, and
// the name of each code in xDS:
// https://github.com/grpc/proposal/blob/master/A44-xds-retry.md.
var retried = map[string]string{
	"CANCELLED":          "cancelled",
	"DEADLINE_EXCEEDED":  "deadline-exceeded",
	"INTERNAL":           "internal",
	"RESOURCE_EXHAUSTED": "resource-exhausted", "UNAVAILABLE": "unavailable",
}

func (p *serviceTargets) retryPolicy(r *serviceconfig.Retry) *routev3.RetryPolicy {
	if r == nil {
		return nil
	}

	var on []string
	for _, code := range r.Codes {
		if name, ok := retried[string(code)]; ok {
			on = append(on, name)
		} else {
			p.lacks("the status code %s in retryPolicy: xDS retries only after cancelled, deadline-exceeded, internal, resource-exhausted and unavailable", code)
		}
	}

	if r.BackoffMultiplier != 2 {
		p.lacks("backoffMultiplier %v in retryPolicy: it is 2 in xDS",
			r.BackoffMultiplier)
	}

	if len(on) == 0 || r.MaxAttempts < 2 {
		return nil
	}

	return &routev3.RetryPolicy{
		RetryOn: strings.Join(on, ","), NumRetries: wrapperspb.UInt32(r.MaxAttempts - 1),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: duration(&r.InitialBackoff),
			MaxInterval:  duration(&r.MaxBackoff),
		},
	}
}

// destination adds the clusters of a set, and returns them with their shares.
// While no endpoint of the set is reachable, the endpoints of fallback, which
// may be nil, take the calls.
func (p *serviceTargets) destination(s, fallback *set) (to []share) {
	weights := slices.Repeat([]uint32{1}, len(s.groups))
	for g := range s.groups {
		if s.groups[0].weight > 0 {
			weights[g] = s.groups[g].weight
		}
	}

	for g, weight := range scaled(weights) {
		if weight > 0 && p.err == nil {
			name := p.nameOf(s, g)
			p.addCluster(name, p.tiers(s, fallback, g))
			to = append(to, share{name, weight})
		}
	}

	return to
}

// scaled halves weights until their sum fits in 32 bits, as gRPC requires. No
// positive weight becomes 0.
func scaled(weights []uint32) []uint32 {
	sum := uint64(0)
	for _, w := range weights {
		sum += uint64(w)
	}

	shift := max(0, bits.Len64(sum)-31)
	for i, w := range weights {
		weights[i] = max(min(w, 1), w>>shift)
	}

	return weights
}

// nameOf returns the name of a group's cluster. The name contains the group's
// match, not its share, so a client keeps its connections when shares change.
func (p *serviceTargets) nameOf(s *set, g int) string {
	name := p.prefix

	switch {
	case s.strict:
		name += strictMark + url.QueryEscape(s.lane)
	case s.lane != "":
		name += laneMark + url.QueryEscape(s.lane)
	}

	if group := s.groups[g].name; group != "" {
		name += "/split=" + group
	}

	return name
}

// These are parts of the names of clusters.
const (
	laneMark   = "/lane="
	onlyMark   = "/only:" // for clusters without fallback
	strictMark = onlyMark + "lane="
	leader     = onlyMark + "leader"
	nobody     = onlyMark + "nobody"
)
