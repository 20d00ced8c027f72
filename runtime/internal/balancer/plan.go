package balancer

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// input is everything a plan is made of.
type input struct {
	service   string // the key's name, for error texts
	config    *config
	client    *attr.Client
	endpoints []resolver.Endpoint
	summary   *attr.Summary       // of endpoints; nil: not known
	held      map[string]struct{} // addresses of endpoints that etcd no longer has
	pending   bool                // the endpoints are not known yet
	err       error               // why there are no endpoints
}

// plan says which endpoints a call may go to. A call's method and lane lead to a view, its weight to a group
// of the view; of the group, the first tier that is usable takes the call, and the policy below picks from
// that tier. A plan is immutable.
type plan struct {
	in      *input
	shape   shape
	routes  routes
	lanes   *lanes               // nil: there are none
	views   []view               // of the base by methods, the first for all methods without a route; then of the lanes
	left    []resolver.Endpoint  // the endpoints that may be called at all
	reports []string             // problems of the config, for people
	instead *balancer.State      // the state if there are no views
	places  map[leafKey]leafPlan // every tier of every view
}

// view is one of the base or of a lane. While no endpoint of a lane that is not strict is usable, the base takes its
// calls.
type view struct {
	groups []group
	lane   string // "": the base
	strict bool
}

// set is the endpoints of a view, in the making.
type set struct {
	key       leafKey // of the view
	endpoints []resolver.Endpoint
	among     int // how many sets share the connections that they may have
	strict    bool
}

type group struct {
	weight uint32
	tiers  []leafPlan // in order of preference
}

// leafPlan is a set of endpoints that one policy below picks from.
type leafPlan struct {
	key       leafKey
	endpoints []resolver.Endpoint
}

// leafKey is the place of a leaf. In two plans of the same shape it means the same.
type leafKey struct {
	view                int    // of the base by methods
	lane                string // "": the base
	methods             string // that the lane's endpoints serve
	group, zone, subset int
}

// shape is everything but the endpoints that decides from which leaf a call picks which endpoint.
type shape struct {
	classes    []string // the distinct sets of methods that endpoints of the base name
	lanes      string   // the matches and labels of the routes
	split      string   // the matches of the groups
	preferZone bool
	policy     string // the policy below
}

func (s *shape) equal(o *shape) bool {
	return s.lanes == o.lanes && s.split == o.split && s.preferZone == o.preferZone && s.policy == o.policy && slices.Equal(s.classes, o.classes)
}

// makePlan divides the endpoints among leaves. It is the order of passes from the entries of a key to a
// pick: package discovery has merged and held before, and the policy below picks after. A pass that
// nobody asks for copies nothing: without options the plan is one leaf with the input's own slice. before
// is the previous plan, whose routes are reused if they are the same; it may be nil.
func makePlan(in *input, before *plan) *plan {
	p := &plan{in: in, places: make(map[leafKey]leafPlan)}
	if p.instead = in.nothing(); p.instead != nil {
		return p
	}
	if in.undivided() {
		p.shape = shape{policy: in.config.child.name()}
		p.views, p.left = []view{{}}, in.endpoints
		p.add(leafKey{}, in.endpoints)
		return p
	}
	p.shape = shape{lanes: in.config.lanesKey, split: in.config.splitKey, preferZone: in.config.PreferZone, policy: in.config.child.name()}

	known := before.lazyKnown()
	p.lanes = in.placeInLanes()
	left := p.drain(in.endpoints)
	left = p.selectFrom(left)
	base := p.baseOf(left)
	classes := in.classesOf(base)
	sets := p.byMethod(base, classes, before)
	sets = append(sets, p.byLane(left, len(sets), classes, before)...)
	for _, set := range sets {
		p.views = append(p.views, view{lane: set.key.lane, strict: set.strict})
		groups := p.bySplit(set.endpoints)
		of := bounds{in.subsetOf(), mostOf(in.client.Most, set.among*len(groups))}
		for g, share := range groups {
			for z, near := range p.byZone(share) {
				for s, chosen := range subsets(near, in.client.Seed, of, known, in.held) {
					key := set.key
					key.group, key.zone, key.subset = g, z, s
					p.add(key, chosen)
				}
			}
		}
	}

	p.left = left
	p.reportLanes()
	p.reportSplit()
	return p
}

// undivided reports whether no pass divides the endpoints, or leaves one out. Most plans are of this kind, and one more
// change of many is not worth a walk through the passes.
func (in *input) undivided() bool {
	c, most := in.config, in.client.Most
	return len(c.Drain) == 0 && len(c.Split) == 0 && c.lanes == nil && !c.PreferZone && in.client.Selector == nil &&
		in.subsetOf() == 0 && (most == 0 || len(in.endpoints) <= most) && in.summary != nil && len(in.summary.Methods) < 2
}

// lazyKnown returns a function that returns the addresses that a plan uses. They are gathered once, and only where
// the next plan may not use all endpoints.
func (p *plan) lazyKnown() func() map[string]struct{} {
	var known map[string]struct{}
	return func() map[string]struct{} {
		if p == nil || known != nil {
			return known
		}
		known = make(map[string]struct{})
		for _, leaf := range p.places {
			for _, ep := range leaf.endpoints {
				known[address(ep)] = struct{}{}
			}
		}
		return known
	}
}

// nothing returns the state if there is nothing to plan, else nil.
func (in *input) nothing() *balancer.State {
	switch {
	case in.client.TargetsOnly:
		return &balancer.State{ConnectivityState: connectivity.Ready, Picker: base.NewErrPicker(errTargetsOnly)}
	case len(in.endpoints) > 0:
		return nil
	case in.pending:
		return &balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
	case in.err != nil:
		return failing(in.err)
	default:
		return failing(fmt.Errorf("etcd: no endpoint of %q is known", in.service))
	}
}

func failing(err error) *balancer.State {
	return &balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)}
}

// add puts endpoints at the place of their key, in the last view, unless there are none.
func (p *plan) add(key leafKey, endpoints []resolver.Endpoint) {
	if len(endpoints) == 0 {
		return
	}
	v := &p.views[len(p.views)-1]
	if n := len(v.groups); n == 0 || v.groups[n-1].tiers[0].key.group != key.group {
		v.groups = append(v.groups, group{weight: p.in.config.weight(key.group)})
	}
	g := &v.groups[len(v.groups)-1]
	leaf := leafPlan{key, endpoints}
	g.tiers = append(g.tiers, leaf)
	p.places[key] = leaf
}

// drain leaves out the endpoints that the config drains.
func (p *plan) drain(endpoints []resolver.Endpoint) []resolver.Endpoint {
	c := p.in.config
	if len(c.Drain) == 0 {
		return endpoints
	}
	names := make(map[string]bool, len(c.Drain)) // those in Drain that are an endpoint's
	var inBase func(i int) bool
	if p.lanes != nil {
		inBase = func(i int) bool { return p.lanes.isBase(endpoints[i]) && isSelected(endpoints[i], p.in.client) }
	}
	d := serviceconfig.FollowDrain(len(endpoints), func(i int) bool { return c.drains(endpoints[i], names) }, inBase, p.in.heldAt(endpoints))
	p.reportDrain(names)
	switch d.Ignored {
	case serviceconfig.DrainNamesAll:
		p.report("drain names all %d endpoints and is ignored", d.Kept)
	case serviceconfig.DrainLeavesHeld:
		p.report("drain leaves only endpoints that have vanished from etcd, and is ignored meanwhile")
	case serviceconfig.DrainNamesBase:
		p.report("drain leaves no endpoint that is in no lane, and is ignored for these %d", d.Kept)
	}
	left := make([]resolver.Endpoint, 0, len(endpoints))
	for i, ep := range endpoints {
		if !d.Drained[i] {
			left = append(left, ep)
		}
	}
	return left
}

// heldAt returns a function that reports which of the endpoints etcd no longer has, nil if it has all.
func (in *input) heldAt(endpoints []resolver.Endpoint) func(i int) bool {
	if len(in.held) == 0 {
		return nil
	}
	return func(i int) bool {
		_, held := in.held[address(endpoints[i])]
		return held
	}
}

// drains reports whether an endpoint is drained, and notes by which names.
func (c *config) drains(ep resolver.Endpoint, named map[string]bool) bool {
	e := attr.Endpoint(ep)
	if e == nil {
		return false
	}
	_, byInstance := c.drained[e.Instance]
	_, byAddr := c.drained[e.Addr]
	if byInstance {
		named[e.Instance] = true
	}
	if byAddr {
		named[e.Addr] = true
	}
	return byInstance || byAddr
}

// selectFrom returns the endpoints that the connection's selector selects.
func (p *plan) selectFrom(endpoints []resolver.Endpoint) []resolver.Endpoint {
	left := selected(endpoints, p.in.client)
	if len(left) == 0 {
		text := fmt.Sprintf("etcd: none of the %d endpoints of %q is selected for this connection", len(endpoints), p.in.service)
		if drained := len(p.in.endpoints) - len(endpoints); drained > 0 {
			text += fmt.Sprintf(" (%d more are drained)", drained)
		}
		p.instead = failing(errors.New(text))
	}
	return left
}

// report notes a problem of the config.
func (p *plan) report(format string, args ...any) {
	p.reports = append(p.reports, fmt.Sprintf(format, args...))
}

// maxReported bounds how many names one report spells out.
const maxReported = 5

// reportDrain reports the names in drain that are no endpoint's.
func (p *plan) reportDrain(named map[string]bool) {
	var unknown []string
	more := 0
	for _, name := range p.in.config.Drain {
		switch {
		case named[name]:
		case len(unknown) < maxReported:
			unknown = append(unknown, fmt.Sprintf("%.80q", name))
		default:
			more++
		}
	}
	switch {
	case len(unknown) == 0:
	case more > 0:
		p.report("drain names %s and %d more, which are no endpoints of %q", strings.Join(unknown, ", "), more, p.in.service)
	case len(unknown) > 1:
		p.report("drain names %s, which are no endpoints of %q", strings.Join(unknown, ", "), p.in.service)
	default:
		p.report("drain names %s, which is no endpoint of %q", unknown[0], p.in.service)
	}
}
