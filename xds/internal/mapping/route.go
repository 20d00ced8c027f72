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
	for _, t := range m.byService {
		for _, at := range t.paths() {
			owners[at] = t
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
	r, err := newResource(config.Name, config)

	for _, route := range config.VirtualHosts[0].Routes {
		for _, c := range route.GetRoute().GetWeightedClusters().GetClusters() {
			r.Clusters = append(r.Clusters, c.Name)
		}
	}

	slices.Sort(r.Clusters)
	r.Clusters = slices.Compact(r.Clusters)

	return r, err
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

// paths returns the paths that need routes: the paths that the service config
// names, the paths of the leader's methods, and the path of the service.
// Instead of its own path, the first service of a host has the path of every
// call: it takes all calls that match no other path.
func (t *serviceTargets) paths() []path {
	all := slices.Collect(maps.Keys(t.policy.methods))
	for _, method := range t.service.Leading {
		service, name := methods.Split(method)
		all = append(all, path{service, name})
	}

	// A service config may name methods of other services. If the host has such
	// a service, the policy of that service applies. If the host does not have
	// it, the first service's policy applies.
	all = slices.DeleteFunc(all, func(at path) bool {
		owner := slices.IndexFunc(t.Services, func(s Service) bool {
			return s.Name == at.service
		})

		return t.service != &t.Services[max(0, owner)]
	})

	if t.service == &t.Services[0] {
		return append(all, path{})
	}

	return append(all, path{service: t.service.Name})
}

// target has the clusters that calls with certain headers go to.
type target struct {
	headers []*routev3.HeaderMatcher
	shares  []share
}

// share is a cluster, and the weight of its share of the calls.
type share struct {
	cluster string
	weight  uint32
}

// setTargets sets the targets of the service. All methods have the same
// targets, except the leader's methods.
func (t *serviceTargets) setTargets() {
	t.closed = t.policy.etcd.Strict("")
	lanes := t.lanes()
	t.spare = maxSpare / ((len(lanes) + 1) * (len(t.policy.etcd.Split) + 1))

	base := t.destination(t.base, nil)

	toLanes := make([][]share, len(lanes))
	for i, s := range lanes {
		toLanes[i] = base
		if s.strict {
			toLanes[i] = t.destination(s, nil)
		} else if !s.isEmpty() {
			toLanes[i] = t.destination(s, t.base)
		}
	}

	add := func(shares []share, headers ...*routev3.HeaderMatcher) {
		t.targets = append(t.targets, target{headers, shares})
	}
	addLanes := func(header string, others ...*routev3.HeaderMatcher) {
		for i, s := range lanes {
			add(toLanes[i], append(others, exactly(header, s.lane))...)
		}

		if t.closed {
			add(t.single(nobody, nil), anyLane(header))
		}
	}

	addLanes(serviceconfig.LaneHeader)

	if header := t.policy.etcd.LaneHeader; header != "" && (len(lanes) > 0 || t.closed) {
		// A lane that the caller set itself takes precedence, even if it is
		// unknown.
		add(base, present(serviceconfig.LaneHeader, true))
		addLanes(header, present(serviceconfig.LaneHeader, false))
	}

	add(base)
}

// single adds a cluster, and returns it as the only share of a target.
func (t *serviceTargets) single(name string, tiers [][]int) []share {
	t.addCluster(t.prefix+name, tiers)
	return []share{{t.prefix + name, 1}}
}

// toLeader returns the cluster of the leader, drained or not. Without a leader,
// calls fail: an xDS client cannot wait for a leader.
func (t *serviceTargets) toLeader() []share {
	var tiers [][]int
	for i := range t.Endpoints {
		if t.Endpoints[i].Instance == t.Leader && t.addresses[i].IsValid() {
			tiers = [][]int{{i}}
		}
	}

	t.lacks("calls to the leader carry no token, and fail with UNAVAILABLE while there is no leader")

	return t.single(leader, tiers)
}

// routesOf returns the routes of a path: first the routes of lanes, last the
// route of all other calls.
func (t *serviceTargets) routesOf(at path) (routes []*routev3.Route) {
	targets := t.targets
	if slices.Contains(t.service.Leading, at.full()) {
		targets = []target{{shares: t.toLeader()}}
	}

	for _, to := range targets {
		routes = append(routes, t.route(at, to))
	}

	return routes
}

// route returns the route that sends the calls of a path to a target, with the
// service config's options for the path.
func (t *serviceTargets) route(at path, to target) *routev3.Route {
	match := at.match()
	match.Headers = to.headers
	action := &routev3.RouteAction{ClusterSpecifier: weighted(to.shares)}

	if t.ring != nil {
		header := &routev3.RouteAction_HashPolicy_Header{
			HeaderName: t.ring.RequestHashHeader,
		}
		action.HashPolicy = []*routev3.RouteAction_HashPolicy{{
			PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{Header: header},
		}}
	}

	// The most specific config applies, as in gRPC.
	method := cmp.Or(
		t.policy.methods[at],
		t.policy.methods[path{service: at.service}],
		t.policy.methods[path{}],
	)
	if method != nil {
		if method.Timeout != nil {
			action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{
				MaxStreamDuration: duration(method.Timeout),
			}
		}

		action.RetryPolicy = t.retryPolicy(method.Retry)
	}

	return &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: action}}
}

// weighted sends calls to clusters by their weights. It also sets the sum of
// the weights, in a deprecated field: without that field, gRPC's C core, in
// versions such as 1.51, rejects routes whose weights have another sum than
// 100.
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

// anyLane matches a header whose value is a valid name of a lane, by the rule
// of serviceconfig.ValidLane.
func anyLane(header string) *routev3.HeaderMatcher {
	name := &matcherv3.RegexMatcher{
		Regex: fmt.Sprintf("[-_.:/0-9A-Za-z]{1,%d}", serviceconfig.MaxLane),
	}

	return &routev3.HeaderMatcher{
		Name: header,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_SafeRegexMatch{
			SafeRegexMatch: name, //nolint:staticcheck // as in exactly
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
	"RESOURCE_EXHAUSTED": "resource-exhausted",
	"UNAVAILABLE":        "unavailable",
}

func (t *serviceTargets) retryPolicy(r *serviceconfig.Retry) *routev3.RetryPolicy {
	if r == nil {
		return nil
	}

	var on []string
	for _, code := range r.Codes {
		if name, ok := retried[string(code)]; ok {
			on = append(on, name)
		} else {
			t.lacks("the status code %s in retryPolicy: xDS retries only after cancelled, deadline-exceeded, internal, resource-exhausted and unavailable", code)
		}
	}

	if r.BackoffMultiplier != 2 {
		t.lacks("backoffMultiplier %v in retryPolicy: it is 2 in xDS",
			r.BackoffMultiplier)
	}

	if len(on) == 0 || r.MaxAttempts < 2 {
		return nil
	}

	return &routev3.RetryPolicy{
		RetryOn:    strings.Join(on, ","),
		NumRetries: wrapperspb.UInt32(r.MaxAttempts - 1),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: duration(&r.InitialBackoff),
			MaxInterval:  duration(&r.MaxBackoff),
		},
	}
}

// destination adds the clusters of a set, and returns them with their shares.
// While no endpoint of the set is reachable, the endpoints of fallback, which
// may be nil, take the calls.
func (t *serviceTargets) destination(s, fallback *set) (to []share) {
	weights := slices.Repeat([]uint32{1}, len(s.groups))

	if s.groups[0].weight > 0 {
		for g := range s.groups {
			weights[g] = s.groups[g].weight
		}
	}

	for g, weight := range scaled(weights) {
		if weight > 0 && t.err == nil {
			name := t.nameOf(s, g)
			t.addCluster(name, t.tiers(s, fallback, g))
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
func (t *serviceTargets) nameOf(s *set, g int) string {
	name := t.prefix

	switch {
	case s.strict:
		name += strictPart + url.QueryEscape(s.lane)
	case s.lane != "":
		name += lanePart + url.QueryEscape(s.lane)
	}

	if group := s.groups[g].name; group != "" {
		name += "/split=" + group
	}

	return name
}

// These are parts of the names of clusters.
const (
	lanePart   = "/lane="
	onlyPart   = "/only:" // for clusters without fallback
	strictPart = onlyPart + "lane="
	leader     = onlyPart + "leader"
	nobody     = onlyPart + "nobody"
)
