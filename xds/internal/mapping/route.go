package mapping

import (
	"cmp"
	"fmt"
	"maps"
	"math"
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

// path is the methods that a route matches: one, all of a service, or all if service is empty.
type path struct{ service, method string }

// routes returns the routes of the host: those of a method before those of its service, and last those of every call. Within each of them,
// lanes come before the base.
func (m *mapping) routes() *Resource {
	owners := make(map[path]*plan)
	for _, p := range m.plans {
		for _, at := range p.paths() {
			owners[at] = p
		}
	}
	paths := slices.SortedFunc(maps.Keys(owners), func(a, b path) int {
		return cmp.Or(strings.Compare(b.method, a.method), strings.Compare(b.service, a.service)) // "" is the last
	})
	host := &routev3.VirtualHost{Name: m.Authority, Domains: []string{"*"}}
	for _, at := range paths {
		host.Routes = append(host.Routes, owners[at].routesOf(at)...)
	}
	if m.err != nil {
		return nil
	}
	r, err := routeResource(&routev3.RouteConfiguration{Name: m.Authority, VirtualHosts: []*routev3.VirtualHost{host}})
	if m.fail(err); err == nil {
		r.shared = m.shared
	}
	return r
}

func routeResource(config *routev3.RouteConfiguration) (*Resource, error) {
	r, err := newResource(config.GetName(), config)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, host := range config.GetVirtualHosts() {
		for _, route := range host.GetRoutes() {
			for _, name := range clustersOf(route.GetRoute()) {
				names[name] = true
			}
		}
	}
	r.Clusters = slices.Sorted(maps.Keys(names))
	return r, nil
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
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Path{Path: p.full()}}
	case p.service != "":
		return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/" + p.service + "/"}}
	}
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}}
}

// full returns the full name of the method, as in the :path header.
func (p path) full() string { return "/" + p.service + "/" + p.method }

// paths returns the paths with routes of their own: those that the service config names, and those for the leader. The first service of a
// host also matches every other call.
func (p *plan) paths() []path {
	all := slices.Collect(maps.Keys(p.policy.methods))
	for _, method := range p.service.Leading {
		service, name := methods.Split(method)
		all = append(all, path{service, name})
	}
	all = slices.DeleteFunc(all, func(at path) bool { return p.ownerOf(at) != p.service })
	if p.service == &p.Services[0] {
		return append(all, path{})
	}
	return append(all, path{service: p.service.Name})
}

// ownerOf returns the service of the host whose policy applies to a path.
func (p *plan) ownerOf(at path) *Service {
	return &p.Services[max(0, slices.IndexFunc(p.Services, func(s Service) bool { return s.Name == at.service }))]
}

// target is the clusters of the calls with certain headers.
type target struct {
	headers []*routev3.HeaderMatcher
	to      []share
}

// share is a cluster with its share of the calls.
type share struct {
	cluster string
	weight  uint32
}

// setTargets makes the targets of the service, which are the same for all its methods but those for the leader.
func (p *plan) setTargets() {
	p.closed = p.policy.etcd.Strict("")
	base := p.share(p.destination(p.base, nil))
	add := func(to []share, headers ...*routev3.HeaderMatcher) {
		if p.err == nil {
			p.targets = append(p.targets, target{headers, to})
		}
	}
	lanes := p.lanes()
	addLanes := func(header string, others ...*routev3.HeaderMatcher) {
		for _, name := range lanes {
			add(p.toLane(name, base), append(others, exactly(header, name))...)
		}
		if p.closed {
			add(p.toNobody(), namesLane(header))
		}
	}
	addLanes(serviceconfig.LaneHeader)
	if header := p.policy.etcd.LaneHeader; header != "" && (len(lanes) > 0 || p.closed) {
		// A lane that the caller set itself takes precedence, even if it is unknown.
		add(base, present(serviceconfig.LaneHeader, true))
		addLanes(header, present(serviceconfig.LaneHeader, false))
	}
	add(base)
}

// toNobody returns a cluster without endpoints, for calls of an unknown lane that must fail.
func (p *plan) toNobody() []share {
	name := p.prefix + nobody
	p.addCluster(name, nil)
	return []share{{name, 1}}
}

// toLane returns the clusters of a lane. If the lane is not strict, its calls fall back on the base.
func (p *plan) toLane(name string, base []share) []share {
	own := p.setOf(name, p.made.Lane(name))
	switch {
	case p.policy.etcd.Strict(name):
		return p.destination(own, nil)
	case own.isEmpty() || p.made.Lane(name) == p.made.Base:
		return base
	}
	return p.share(p.destination(own, p.base))
}

// share marks clusters as shared, see [Resource].
func (p *plan) share(to []share) []share {
	for _, s := range to {
		p.shared[s.cluster] = true
	}
	return to
}

// toLeader returns the cluster of the leader, which may be drained. Without a leader, calls fail: an xDS client cannot wait for one.
func (p *plan) toLeader() []share {
	var tiers [][]int
	for i := range p.Endpoints {
		if p.Endpoints[i].Instance == p.Leader && p.addresses[i] != nil {
			tiers = [][]int{{i}}
		}
	}
	p.lacks("calls to the leader carry no token, and fail with UNAVAILABLE while there is no leader")
	name := p.prefix + leader
	p.addCluster(name, tiers)
	return []share{{name, 1}}
}

// routesOf returns the routes of a path: those of the lanes, and last that of all other calls.
func (p *plan) routesOf(at path) (routes []*routev3.Route) {
	targets := p.targets
	if p.leads(at) {
		targets = []target{{to: p.toLeader()}}
	}
	for _, t := range targets {
		r := p.route(at, t)
		routes = append(routes, r)
		p.routeCount++
		if p.routeBytes += proto.Size(r); p.routeBytes > maxBytes || p.routeCount > maxRoutes {
			p.fail(errTooLarge)
		}
		if p.err != nil {
			return nil
		}
	}
	return routes
}

// route returns the route of a path to a target, with what the service config says of the path.
func (p *plan) route(at path, t target) *routev3.Route {
	match := at.match()
	match.Headers = t.headers
	action := &routev3.RouteAction{HashPolicy: p.hashPolicy(), ClusterSpecifier: weighted(t.to)}
	if method := p.methodConfig(at); method != nil {
		if method.Timeout != nil {
			action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: duration(*method.Timeout)}
		}
		action.RetryPolicy = p.retryPolicy(method.Retry)
	}
	return &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: action}}
}

// weighted uses a deprecated field: gRPC's C core takes an unset sum for 100, and refuses routes with another, in versions such as 1.51.
func weighted(to []share) *routev3.RouteAction_WeightedClusters {
	all, sum := &routev3.WeightedCluster{}, uint32(0)
	for _, s := range to {
		sum += s.weight
		all.Clusters = append(all.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: s.cluster, Weight: wrapperspb.UInt32(s.weight)})
	}
	all.TotalWeight = wrapperspb.UInt32(sum) //nolint:staticcheck // see above
	return &routev3.RouteAction_WeightedClusters{WeightedClusters: all}
}

// exactly uses a deprecated field: gRPC's C core supports string_match only since 1.56.
func exactly(header, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: value}} //nolint:staticcheck // see above
}

// namesLane matches each valid name of a lane, known or not, like [serviceconfig.ValidLane]. It uses a deprecated field for the same reason.
func namesLane(header string) *routev3.HeaderMatcher {
	lane := &matcherv3.RegexMatcher{Regex: fmt.Sprintf("[-_.:/0-9A-Za-z]{1,%d}", serviceconfig.MaxLane)}
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: lane}} //nolint:staticcheck // see above
}

func present(header string, is bool) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}, InvertMatch: !is}
}

func duration(d serviceconfig.Duration) *durationpb.Duration { return durationpb.New(time.Duration(d)) }

// leads reports whether the calls of a path go to the leader.
func (p *plan) leads(at path) bool {
	return at.method != "" && slices.Contains(p.service.Leading, at.full())
}

// methodConfig returns the most specific config of a path, like gRPC, nil for none.
func (p *plan) methodConfig(at path) *serviceconfig.Method {
	return cmp.Or(p.policy.methods[at], p.policy.methods[path{service: at.service}], p.policy.methods[path{}])
}

// retried are the codes after which gRPC retries if configured by xDS:
// https://github.com/grpc/proposal/blob/master/A44-xds-retry.md.
var retried = map[string]string{
	"CANCELLED": "cancelled", "DEADLINE_EXCEEDED": "deadline-exceeded", "INTERNAL": "internal",
	"RESOURCE_EXHAUSTED": "resource-exhausted", "UNAVAILABLE": "unavailable",
}

func (p *plan) retryPolicy(r *serviceconfig.Retry) *routev3.RetryPolicy {
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
		p.lacks("backoffMultiplier %v in retryPolicy: it is 2 in xDS", r.BackoffMultiplier)
	}
	if len(on) == 0 || r.MaxAttempts < 2 {
		return nil
	}
	return &routev3.RetryPolicy{
		RetryOn: strings.Join(on, ","), NumRetries: wrapperspb.UInt32(r.MaxAttempts - 1),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: duration(r.InitialBackoff), MaxInterval: duration(r.MaxBackoff)},
	}
}

// hashPolicy names the header that calls are hashed by.
func (p *plan) hashPolicy() []*routev3.RouteAction_HashPolicy {
	if p.ring == nil {
		return nil
	}
	return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
		Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: p.ring.RequestHashHeader},
	}}}
}

// destination returns the clusters of a set with their shares. The calls of a group without a reachable endpoint go to the other groups, and then
// to those of fallback, if any. Weighted clusters alone would let these calls fail, see grpc/grpc-go#8383.
func (p *plan) destination(s, fallback *set) (to []share) {
	var last []string
	if fallback != nil {
		last = p.leaves(fallback, -1)
	}
	weights := make([]uint32, len(s.groups))
	for g := range s.groups {
		weights[g] = s.groups[g].weight
	}
	if slices.Max(weights) == 0 {
		weights = slices.Repeat([]uint32{1}, len(weights))
	}
	for g, weight := range scaled(weights) {
		if weight > 0 && p.err == nil {
			chain := append([]string{p.leaf(s, s.groups[g])}, p.leaves(s, g)...)
			to = append(to, share{p.aggregate(append(chain, last...)), weight})
		}
	}
	return to
}

// scaled halves weights until their sum fits in 32 bits, as gRPC requires. None of them becomes 0.
func scaled(weights []uint32) []uint32 {
	sum, shift := uint64(0), 0
	for _, w := range weights {
		sum += uint64(w)
	}
	for sum>>shift > math.MaxUint32/2 {
		shift++
	}
	for i, w := range weights {
		weights[i] = max(min(w, 1), w>>shift)
	}
	return weights
}

// maxOthers limits how many groups may take the calls of another one.
const maxOthers = 16

// leaves returns the clusters of a set's groups except one, by descending share.
func (p *plan) leaves(s *set, except int) (names []string) {
	order := make([]int, 0, len(s.groups))
	for g := range s.groups {
		if g != except {
			order = append(order, g)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(s.groups[b].weight, s.groups[a].weight) })
	for _, g := range order[:min(len(order), maxOthers)] {
		names = append(names, p.leaf(s, s.groups[g]))
	}
	return names
}

// leaf makes the cluster of a group, and returns its name. The name depends on what the endpoints have in common, so a client keeps its
// connections when shares change.
func (p *plan) leaf(s *set, g group) string {
	name := p.prefix
	if s.lane != "" {
		name += laneMark + url.QueryEscape(s.lane)
	}
	if g.name != "" {
		name += "/split=" + g.name
	}
	p.addCluster(name, g.tiers)
	return name
}

// Parts of the names of clusters.
const (
	laneMark      = "/lane="
	leader        = "/leader"
	nobody        = "/nobody"
	aggregateMark = "/or=others"
)
