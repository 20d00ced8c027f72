package balancer

import (
	"cmp"
	"hash/maphash"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// input is the input of a plan, and the state that it comes from. It is
// immutable once a plan has it.
type input struct {
	planner.Input[*model.Backend]
	config *config
	state  *model.State // calls may name any of its endpoints
	route  metadata.MD  // the request metadata of calls to routed methods
}

func newInput(s *model.State, c *config) *input {
	in := &input{Input: s.Input(&c.Config, &s.Client.Client), config: c, state: s}
	if s.Route.Header != "" {
		in.route = metadata.Pairs(s.Route.Header, s.Route.Value)
	}

	return in
}

// bareClient describes connections that were not made by NewClient. All of them
// use the same subset.
var bareClient = &model.Client{Client: planner.Client{Seed: maphash.MakeSeed()}}

// inputFrom returns the input that a resolver's state carries. If the state is
// of another package's resolver, inputFrom makes the input from the state's
// endpoints, and uses target as the service's key.
func inputFrom(s resolver.State, c *config, target string) *input {
	state := model.StateOf(s)
	if state == nil {
		state = &model.State{
			KeyState: model.KeyState{Known: true, Endpoints: distinct(s.Endpoints)},
			Client:   bareClient,
			Name:     target,
		}
	}

	return newInput(state, c)
}

// distinct returns the backends of endpoints, sorted, without those that have
// no address or an earlier endpoint's address.
func distinct(endpoints []resolver.Endpoint) []*model.Backend {
	seen := make(map[string]bool, len(endpoints))
	rest := make([]*model.Backend, 0, len(endpoints))
	for _, ep := range endpoints {
		b := model.Of(ep)
		if addr := b.Endpoint.Addr; addr != "" && !seen[addr] {
			seen[addr] = true
			rest = append(rest, b)
		}
	}

	slices.SortFunc(rest, model.Compare)

	return rest
}

// connPlan is a plan with connections. The lane of a call selects a view, and
// the weights of the split select a group of the view. The call goes to the
// first tier of the group with a ready endpoint, and the policy chooses within
// the tier.
//
// A connPlan is immutable, with three exceptions: calls open views and add
// methods, the core sets conns once, and the members that a tier uses change.
type connPlan struct {
	*planner.Plan[*model.Backend]
	in     *input
	traits picking.Traits
	conns  []*conn // the connections to the endpoints in All; set by the core
	base   *view
	views  map[*planner.Lane]*view // nil without lanes

	// makes the core select connections again. A call does this if no call
	// before it has needed the same view, connection or method.
	demanded func()

	sequence picking.Sequence // for the choices among groups
	rings    picking.Rings
	differ   bool // the endpoints serve different methods

	mu      sync.Mutex // guards the fields below
	open    []*view    // see openViews
	methods []string   // methods that calls need and some endpoints lack
}

// makePlan makes the plan of an input. A view opens when a call uses it.
func makePlan(in *input) *connPlan {
	p := &connPlan{
		in:     in,
		traits: in.config.policy.Traits(),
		Plan:   planner.Make(&in.Input),
	}

	p.traits.Counts = p.traits.Counts || in.config.MaxConcurrentRequests > 0
	p.sequence.Shuffle()

	p.base = &view{plan: p, Lane: p.Base}
	if p.HasLanes() {
		p.views = map[*planner.Lane]*view{p.Base: p.base}
	}

	for l := range p.Lanes() {
		v := &view{plan: p, Lane: l}
		if !l.Strict {
			v.base = p.base
		}

		p.views[l] = v
	}

	return p
}

// errTargetsOnly is the error of a call that names no instance, on the
// connection of a runtime.Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: the call names no instance: make it on the Conn of an Instance, with the context that Each passes")

// targetsOnly returns a plan whose base has no endpoints. It serves only calls
// that name their instance.
func targetsOnly(in *input) *connPlan {
	p := &connPlan{in: in, Plan: &planner.Plan[*model.Backend]{
		Input: &in.Input,
		Base:  new(planner.Lane),
		Empty: errTargetsOnly,
	}}

	p.Divide(nil, nil, in.Departed, nil)
	p.base = &view{plan: p, Lane: p.Base}

	return p
}

// adopt opens the base view, and the views of those lanes that calls used in
// the previous plan. It also copies the methods that calls need.
func (p *connPlan) adopt(previous *connPlan) {
	p.base.open()

	for _, v := range previous.openViews() {
		if v := p.views[p.Lane(v.Name)]; v != nil {
			v.open()
		}
	}

	if p.differ {
		p.methods = previous.needs()
	}
}

// openViews returns the base, and the views that calls have used.
func (p *connPlan) openViews() []*view {
	p.mu.Lock()
	defer p.mu.Unlock()

	return p.open[:len(p.open):len(p.open)]
}

// picksSome reports whether the plan may use only some of its live endpoints.
func (p *connPlan) picksSome() bool {
	return p.traits.Single || p.traits.Rings || p.Chooses()
}

// arrive records that a call under ring_hash has reached conn. The core then
// connects to it.
func (p *connPlan) arrive(conn *conn) {
	if !conn.reached.Load() &&
		conn.reached.CompareAndSwap(false, true) &&
		!conn.is(ready) {
		p.demanded()
	}
}

// selectsByReadiness reports whether the selection of connections depends on
// calls and on readiness.
func (p *connPlan) selectsByReadiness() bool {
	return p.picksSome() || p.Live < len(p.All)
}

// outside yields the indexes in All, except those of the first prefix and of
// the last suffix live endpoints. Endpoints that are not live come after the
// live ones, and are never left out.
func (p *connPlan) outside(prefix, suffix int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := prefix; i < len(p.All)-suffix; i++ {
			at := i
			if i >= p.Live-suffix {
				at += suffix
			}

			if !yield(at) {
				return
			}
		}
	}
}

// view is a lane, or the base, with its groups. All views of a plan share its
// connections.
type view struct {
	*planner.Lane
	plan *connPlan

	// takes calls that this view cannot take; nil for the base and for strict
	// lanes
	base *view

	groups [][]*tier // the tiers of each group, in order of preference; set by open

	// distinct method lists of the endpoints, set by open; nil if all are
	// equal, or there are too many
	texts []string

	chosen atomic.Bool // the core has chosen the members that each tier uses
	making sync.Mutex  // held while the next snapshot is made
	last   atomic.Pointer[snapshot]
}

// open divides the endpoints of the view's lane into groups and tiers. It
// returns false if the view is open already.
func (v *view) open() bool {
	p := v.plan
	p.mu.Lock()
	defer p.mu.Unlock()

	if slices.Contains(p.open, v) {
		return false
	}

	for _, g := range p.Groups(v.Lane) {
		tiers := make([]*tier, len(g.Tiers))
		for i, of := range g.Tiers {
			tiers[i] = p.makeTier(&g, of)
		}

		v.groups = append(v.groups, tiers)
	}

	if p.differ {
		v.texts = p.methodTexts(v.Members)
	}

	p.open = append(p.open, v)

	return true
}

// tier is a tier of a group. It knows which of its members the plan uses.
type tier struct {
	planner.Tier
	group *planner.Group
	used  atomic.Pointer[picking.Tier]

	// under pick_first, the connection that takes all calls; set by the core;
	// may be nil
	first atomic.Pointer[conn]
}

func (p *connPlan) makeTier(group *planner.Group, of planner.Tier) *tier {
	if p.traits.Shuffles {
		of.Members = p.Rank(of.Members)
	}

	if p.traits.Single && of.Class != planner.Departed {
		of.Most = 1
	}

	t := &tier{Tier: of, group: group}
	t.setMembers(p, of.Members[:cmp.Or(of.Most, len(of.Members))])

	return t
}

// setMembers sets which members of a tier the plan uses.
func (t *tier) setMembers(p *connPlan, members []int32) {
	if t.Most > 0 {
		members = slices.Sorted(slices.Values(members))
	}

	if now := t.used.Load(); now == nil || !slices.Equal(now.Members, members) {
		t.used.Store(picking.NewTier(members, &p.rings, func() ([]string, []uint64) {
			return p.ringOf(members)
		}))
	}
}

// ringOf returns the names and weights from which picking makes the members'
// ring.
func (p *connPlan) ringOf(members []int32) (names []string, weights []uint64) {
	names = make([]string, len(members))
	weights = make([]uint64, len(members))
	for i, m := range members {
		e := &p.All[m].Endpoint

		before := ""
		if m > 0 {
			before = p.All[m-1].Endpoint.Instance
		}

		names[i] = endpoint.RingName(
			e.Instance, e.Addr, before)
		weights[i] = weightOf(p.All[m])
	}

	return names, weights
}

// anyBefore reports whether any connection in a tier before class has one of
// the given readinesses.
func (v *view) anyBefore(class planner.Class, of ...readiness) bool {
	for _, tiers := range v.groups {
		for _, t := range tiers {
			if t.Class >= class {
				break
			}

			for _, m := range t.used.Load().Members {
				if slices.Contains(of, v.plan.conns[m].readiness()) {
					return true
				}
			}
		}
	}

	return false
}

// weightOf returns the weight in an endpoint's entry, at least 1.
func weightOf(b *model.Backend) uint64 {
	return uint64(max(1, b.Endpoint.Weight))
}

// commonLengths returns the lengths of the common prefix and suffix of two
// lists. It compares pointers, and reads no backend.
func commonLengths(a, b []*model.Backend) (prefix, suffix int) {
	n := min(len(a), len(b))
	for prefix < n && a[prefix] == b[prefix] {
		prefix++
	}

	for suffix < n-prefix && a[len(a)-1-suffix] == b[len(b)-1-suffix] {
		suffix++
	}

	return prefix, suffix
}
