package mapping

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// path is the methods that a route is for: one, all of a service or, without a service, all.
type path struct{ service, method string }

// routes makes the routes of the host, of which the last takes what is left, to the usual cluster: those of one method before those of a service, which are before that of all. Within
// each, lanes come before what is in none.
func (m *mapping) routes() (_ *Resource, usual string, err error) {
	type sited struct {
		path
		plan *plan
	}
	var all []sited
	for i, p := range m.services {
		for _, at := range p.fit(p.paths(i == 0)) {
			all = append(all, sited{at, p})
		}
	}
	slices.SortStableFunc(all, func(a, b sited) int { return cmp.Compare(a.rank(), b.rank()) })
	host := &routev3.VirtualHost{Name: m.Authority, Domains: []string{"*"}}
	seen := make(map[path]bool)
	for _, at := range all {
		if !seen[at.path] {
			seen[at.path] = true
			host.Routes = append(host.Routes, at.plan.routesOf(at.path)...)
		}
	}
	last := host.GetRoutes()[len(host.GetRoutes())-1].GetRoute()
	if usual = last.GetCluster(); usual == "" {
		usual = last.GetWeightedClusters().GetClusters()[0].GetName()
	}
	r, err := routeResource(&routev3.RouteConfiguration{Name: m.Authority, VirtualHosts: []*routev3.VirtualHost{host}})
	if err != nil {
		return nil, "", err
	}
	r.shared = m.sharing
	return r, usual, nil
}

func routeResource(config *routev3.RouteConfiguration) (*Resource, error) {
	r, err := newResource(config.GetName(), config)
	if err != nil {
		return nil, err
	}
	names := make(map[string]bool)
	for _, host := range config.GetVirtualHosts() {
		for _, route := range host.GetRoutes() {
			action := route.GetRoute()
			if name := action.GetCluster(); name != "" {
				names[name] = true
			}
			for _, c := range action.GetWeightedClusters().GetClusters() {
				names[c.GetName()] = true
			}
		}
	}
	r.Clusters = slices.Sorted(maps.Keys(names))
	return r, nil
}

// Detour returns the next routes for a client that does not know all of their clusters, with another cluster in place of
// those, nil if they cannot be made. Calls that go nowhere else, those of a strict lane and those for the leader, keep theirs,
// and fail until the client knows it.
func Detour(next *Resource, by string, knows func(cluster string) bool) *Resource {
	config := new(routev3.RouteConfiguration)
	if err := next.Body.UnmarshalTo(config); err != nil {
		return nil
	}
	for _, route := range config.GetVirtualHosts()[0].GetRoutes() {
		action, name := route.GetRoute(), route.GetRoute().GetCluster()
		if weighted := action.GetWeightedClusters(); weighted != nil {
			name = weighted.GetClusters()[0].GetName()
			known := slices.DeleteFunc(slices.Clone(weighted.GetClusters()), func(c *routev3.WeightedCluster_ClusterWeight) bool {
				return !knows(c.GetName())
			})
			if len(known) > 0 {
				weighted.Clusters = known
				continue
			}
		}
		if next.shared[name] && !knows(name) {
			action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: by}
		}
	}
	r, err := routeResource(config)
	if err != nil {
		return nil
	}
	return r
}

// Announce returns routes as they are and one more, which no call takes, to the clusters that the next routes name and these
// do not; nil if there are none. grpc-go fails calls for a moment after it is given routes to a cluster that it does not
// know: it goes by new routes before it has told its policy of the cluster. So it is given the clusters first.
func Announce(routes, next *Resource) (*Resource, error) {
	var news []*routev3.WeightedCluster_ClusterWeight
	for _, name := range next.Clusters {
		if !slices.Contains(routes.Clusters, name) {
			news = append(news, &routev3.WeightedCluster_ClusterWeight{Name: name, Weight: wrapperspb.UInt32(1)})
		}
	}
	if news == nil {
		return nil, nil
	}
	config := new(routev3.RouteConfiguration)
	if err := routes.Body.UnmarshalTo(config); err != nil {
		return nil, err
	}
	host := config.GetVirtualHosts()[0]
	host.Routes = append(host.Routes, &routev3.Route{ // behind the one that takes every call
		Match: path{service: "etcdrpc.announced"}.match(),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: news}},
		}},
	})
	return routeResource(config)
}

// rank orders paths, the narrowest first.
func (p path) rank() int {
	switch {
	case p.method != "":
		return 0
	case p.service != "":
		return 1
	}
	return 2
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

// full returns the name of the method as calls carry it.
func (p path) full() string { return "/" + p.service + "/" + p.method }

// paths returns the paths whose calls are made differently: those that the service config names, those for the leader, and
// those that not every endpoint serves. The first service of a host takes what is no other's as well.
func (p *plan) paths(first bool) []path {
	set := make(map[path]bool)
	for at := range p.policy.methods {
		set[at] = true
	}
	for _, method := range p.service.Leading {
		service, name := methods.Split(method)
		set[path{service, name}] = true
	}
	maps.Copy(set, p.servedDifferently())
	maps.DeleteFunc(set, func(at path, _ bool) bool { return p.ownerOf(at) != p.service })
	if first {
		set[path{}] = true
	} else {
		set[path{service: p.service.Name}] = true
	}
	return slices.SortedFunc(maps.Keys(set), func(a, b path) int {
		return cmp.Or(strings.Compare(a.service, b.service), strings.Compare(a.method, b.method))
	})
}

// ownerOf returns the service of the host whose policy the calls of a path go by.
func (p *plan) ownerOf(at path) *Service {
	for i := range p.Services {
		if p.Services[i].Name == at.service {
			return &p.Services[i]
		}
	}
	return &p.Services[0]
}

// servedDifferently returns the methods that endpoints name of which some serve others, and their services, but for what all
// endpoints and all lanes name: that is called as the rest of its service is.
func (p *plan) servedDifferently() map[path]bool {
	of := make(map[path]int) // by how many texts each is named
	for _, named := range p.named {
		for at := range named {
			of[at]++
		}
	}
	differ := make(map[string]bool) // texts beside others
	for _, l := range append(slices.Clone(p.lanes), p.base) {
		for _, text := range l.texts {
			differ[text] = differ[text] || len(l.texts) > 1
		}
	}
	set := make(map[path]bool)
	for text, differs := range differ {
		for at := range p.named[text] {
			if differs && of[at] < len(p.named) {
				set[at], set[path{service: at.service}] = true, true
			}
		}
	}
	return set
}

// namedBy returns the methods in an endpoint's text, and the service of each.
func namedBy(text string) map[path]bool {
	named := make(map[path]bool)
	for part := range strings.SplitSeq(text, ";") {
		service, list, ok := strings.Cut(part, "/")
		if !ok || service == "" {
			continue
		}
		named[path{service: service}] = true
		for name := range strings.SplitSeq(list, ",") {
			if name != "" && !strings.Contains(name, "/") {
				named[path{service, name}] = true
			}
		}
	}
	return named
}

// routesOf returns the routes of a path: those of the lanes, and that of all other calls.
func (p *plan) routesOf(at path) []*routev3.Route {
	if p.leads(at) {
		return []*routev3.Route{p.route(at.match(), at, p.toLeader())}
	}
	base := p.inBase(at)
	toBase := p.shared(p.destination(base, nil))
	var routes []*routev3.Route
	add := func(to []share, headers ...*routev3.HeaderMatcher) {
		routes = append(routes, p.route(withHeaders(at.match(), headers...), at, to))
	}
	for i := range p.lanes {
		l := &p.lanes[i]
		add(p.toLane(l, at, base), exactly(serviceconfig.LaneHeader, l.name))
	}
	if p.closed {
		add(p.toNobody(), namesLane(serviceconfig.LaneHeader))
	}
	if header := p.policy.etcd.LaneHeader; header != "" && (len(p.lanes) > 0 || p.closed) {
		// The lane that the caller set itself counts first, also where it is none that is known.
		add(toBase, present(serviceconfig.LaneHeader, true))
		for i := range p.lanes {
			l := &p.lanes[i]
			add(p.toLane(l, at, base), present(serviceconfig.LaneHeader, false), exactly(header, l.name))
		}
		if p.closed {
			add(p.toNobody(), namesLane(header))
		}
	}
	add(toBase)
	return routes
}

// toNobody returns a cluster without endpoints, for the calls of a lane that no instance has.
func (p *plan) toNobody() []share {
	name := p.prefix + "/nobody"
	p.addCluster(name, nil)
	return []share{{name, 1}}
}

// toLane returns where the calls of a lane go: to its endpoints and, if it is not strict, failing these to the base.
func (p *plan) toLane(l *lane, at path, base *set) []share {
	own, elsewhere := p.serving(at, l, &p.base)
	switch {
	case !l.strict && (elsewhere || !p.hasLive(l.members)):
		return p.shared(p.destination(base, nil))
	case l.strict:
		return p.destination(own, nil)
	}
	return p.shared(p.destination(own, base))
}

// shared notes of clusters that their calls may go to others while a client does not know them.
func (p *plan) shared(to []share) []share {
	for _, s := range to {
		p.sharing[s.cluster] = true
	}
	return to
}

func withHeaders(m *routev3.RouteMatch, headers ...*routev3.HeaderMatcher) *routev3.RouteMatch {
	m.Headers = headers
	return m
}

// exactly is deprecated in favour of string_match, which gRPC's C core understands since 1.56 alone.
func exactly(header, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: value}} //nolint:staticcheck // see above
}

// namesLane matches what names a lane, whether it is known or not, as [serviceconfig.ValidLane] does. The field is deprecated for the
// same reason.
func namesLane(header string) *routev3.HeaderMatcher {
	lane := &matcherv3.RegexMatcher{Regex: fmt.Sprintf("[-_.:/0-9A-Za-z]{1,%d}", serviceconfig.MaxLane)}
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: lane}} //nolint:staticcheck // see above
}

func present(header string, is bool) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}, InvertMatch: !is}
}

// share is a cluster with its share of the calls.
type share struct {
	cluster string
	weight  uint32
}

// route makes a route to clusters, with what the service config says of the methods.
func (p *plan) route(match *routev3.RouteMatch, at path, to []share) *routev3.Route {
	action := &routev3.RouteAction{HashPolicy: p.hashPolicy()}
	if len(to) == 1 {
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: to[0].cluster}
	} else {
		weighted := &routev3.WeightedCluster{}
		for _, s := range to {
			weighted.Clusters = append(weighted.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: s.cluster, Weight: wrapperspb.UInt32(s.weight)})
		}
		action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	}
	if method := p.methodConfig(at); method != nil {
		if method.Timeout != nil {
			action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: duration(*method.Timeout)}
		}
		action.RetryPolicy = p.retryPolicy(method.Retry)
	}
	return &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: action}}
}

func duration(d serviceconfig.Duration) *durationpb.Duration { return durationpb.New(time.Duration(d)) }

// leads reports whether the calls of a path go to the leader.
func (p *plan) leads(at path) bool {
	return at.method != "" && slices.Contains(p.service.Leading, at.full())
}

// methodConfig returns the config that fits a path best, as gRPC does: nil if there is none.
func (p *plan) methodConfig(at path) *serviceconfig.Method {
	return cmp.Or(p.policy.methods[at], p.policy.methods[path{service: at.service}], p.policy.methods[path{}])
}

// retried are the codes after which gRPC retries by xDS:
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
			p.lose("the status code %s in retryPolicy: xDS retries after cancelled, deadline-exceeded, internal, resource-exhausted and unavailable alone", code)
		}
	}
	if r.BackoffMultiplier != 2 {
		p.lose("backoffMultiplier %v in retryPolicy: by xDS it is 2", r.BackoffMultiplier)
	}
	if len(on) == 0 || r.MaxAttempts < 2 {
		return nil
	}
	return &routev3.RetryPolicy{
		RetryOn: strings.Join(on, ","), NumRetries: wrapperspb.UInt32(r.MaxAttempts - 1),
		RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: duration(r.InitialBackoff), MaxInterval: duration(r.MaxBackoff)},
	}
}

// hashPolicy names the header by which calls are hashed.
func (p *plan) hashPolicy() []*routev3.RouteAction_HashPolicy {
	if p.ring == nil {
		return nil
	}
	return []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
		Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: p.ring.RequestHashHeader},
	}}}
}

// destination returns the clusters for calls to a set of endpoints, with their shares. Where those of one cannot be reached,
// its calls go to the others', and then to those of fallback, nil for none: clusters by weight alone would let them fail, see
// grpc/grpc-go#8383.
func (p *plan) destination(s, fallback *set) []share {
	key := [2]*set{s, fallback}
	if p.to[key] == nil {
		p.to[key] = p.makeDestination(s, fallback)
	}
	return p.to[key]
}

func (p *plan) makeDestination(s, fallback *set) []share {
	var last []string
	served := "" // what the endpoints of last serve, where others do not
	if fallback != nil {
		last, served = p.others(fallback, -1), fallback.served
	}
	groups := s.groups
	if len(groups) == 0 {
		chain := append([]string{p.leaf(s, group{})}, last...) // alone, its calls fail
		return []share{{p.aggregate(chain, served), 1}}
	}
	weights := weightsOf(groups)
	var to []share
	for g := range groups {
		if weights[g] > 0 {
			chain := append([]string{p.leaf(s, groups[g])}, p.others(s, g)...)
			to = append(to, share{p.aggregate(append(chain, last...), served), weights[g]})
		}
	}
	return to
}

// weightsOf returns the shares of groups. If none has one, they share alike. gRPC adds them up in 32 bits.
func weightsOf(groups []group) []uint32 {
	sum := uint64(0)
	for _, g := range groups {
		sum += uint64(g.weight)
	}
	weights := make([]uint32, len(groups))
	for i, g := range groups {
		switch {
		case sum == 0:
			weights[i] = 1
		case sum > math.MaxUint32 && g.weight > 0:
			weights[i] = max(1, uint32(uint64(g.weight)*(math.MaxUint32/2)/sum))
		default:
			weights[i] = g.weight
		}
	}
	return weights
}

// maxOthers bounds the groups that calls go to in place of one.
const maxOthers = 16

// others returns the clusters of a set's groups but one, the one with the greatest share first.
func (p *plan) others(s *set, but int) []string {
	groups := s.groups
	order := make([]int, 0, len(groups))
	for g := range groups {
		if g != but {
			order = append(order, g)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(groups[b].weight, groups[a].weight) })
	order = order[:min(len(order), maxOthers)]
	var names []string
	for _, g := range order {
		names = append(names, p.leaf(s, groups[g]))
	}
	return names
}

// toLeader returns the cluster of the instance that leads, drained or not. Without one, calls fail: gRPC's clients by xDS cannot
// wait for it.
func (p *plan) toLeader() []share {
	var members []int
	for i := range p.Endpoints {
		if p.Endpoints[i].Instance == p.Leader && p.located[i] != nil {
			members = append(members, i)
		}
	}
	p.lose("calls to the leader carry no token, and fail with UNAVAILABLE while there is none")
	name := p.prefix + "/leader"
	led := *p
	led.drained = make([]bool, len(p.Endpoints))
	led.addCluster(name, members)
	return []share{{name, 1}}
}

// leaf returns the name of the cluster of a group's endpoints, which it makes. The name tells what the endpoints have in
// common, so that a cluster keeps its connections when shares change.
func (p *plan) leaf(s *set, g group) string {
	name := p.prefix
	for _, part := range []struct{ what, value string }{{"lane", brief(s.lane)}, {"split", g.name}, {"methods", s.served}} {
		if part.value != "" {
			name += "/" + part.what + "=" + part.value
		}
	}
	p.addCluster(name, g.members)
	return name
}

// maxPart bounds a part of the name of a cluster, which each route to it has.
const maxPart = 64

// brief makes a text a part of the name of a cluster: escaped or, where that is long, hashed.
func brief(text string) string {
	if escaped := escape(text); len(escaped) <= maxPart {
		return escaped
	}
	return fmt.Sprintf("#%.16x", sha256.Sum256([]byte(text))) // no text is escaped to "#"
}
