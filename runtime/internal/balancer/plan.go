package balancer

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// plan is a plan of package plan with connections. The lane of a call selects a view, and the weights of the split select a
// group of the view. The call goes to the first tier of the group with a ready endpoint, and the policy chooses within the
// tier. The plan is immutable, except that calls open views and add methods, the core sets conns once, and the members that a
// tier uses change.
type plan struct {
	*planning.Plan[*attr.Backend]
	in       *input
	traits   picking.Traits
	policy   picking.Policy // nil if the plan serves only calls that name their instance
	conns    []*conn        // the connections to the endpoints in All; set by the core
	base     *view
	views    map[*planning.Lane]*view // without the base; nil without lanes
	opened   func()                   // called when a call is the first to need some connections
	sequence picking.Sequence         // for the choices among groups
	rings    picking.Rings
	differ   bool // the endpoints serve different methods

	mu      sync.Mutex // guards the fields below
	open    []*view    // the base, and views that calls have used
	methods []string   // methods that calls need and some endpoints lack
}

// makePlan makes the plan of an input.
func makePlan(in *input) *plan {
	p := &plan{in: in, policy: in.config.policy, Plan: planning.Make(&in.Input)}
	p.sequence.Shuffle()
	if p.policy != nil {
		p.traits = p.policy.Traits()
		p.traits.Counts = p.traits.Counts || in.config.MaxConcurrentRequests > 0
	}
	p.makeViews()
	return p
}

// targetsOnly returns a plan without endpoints. It serves only calls that name their instance.
func targetsOnly(in *input, empty error) *plan {
	p := &plan{in: in, Plan: &planning.Plan[*attr.Backend]{Input: &in.Input, Base: new(planning.Lane), Empty: empty}}
	p.makeViews()
	return p
}

// makeViews makes the views of the lanes. A view opens when a call uses it.
func (p *plan) makeViews() {
	p.base = &view{plan: p, Lane: p.Base}
	if p.HasLanes() {
		p.views = make(map[*planning.Lane]*view)
	}
	for l := range p.Lanes() {
		v := &view{plan: p, Lane: l}
		if !l.Strict {
			v.base = p.base
		}
		p.views[l] = v
	}
}

// viewIn returns the view of a lane.
func (p *plan) viewIn(l *planning.Lane) *view {
	if l == p.Base {
		return p.base
	}
	return p.views[l]
}

// viewOf returns the view of a call.
func (p *plan) viewOf(info *balancer.PickInfo, o *calloptions.Options) (*view, error) {
	if !p.HasLanes() {
		return p.base, nil
	}
	name := calloptions.LaneOf(info.Ctx, o, p.Config.LaneHeader)
	lane := p.Lane(name)
	if lane == nil {
		return nil, p.LaneError(name)
	}
	return p.viewIn(lane), nil
}

// adopt opens the base view, and the views of those lanes that calls used in the previous plan, which may be nil. It also
// copies the methods that calls need.
func (p *plan) adopt(previous *plan) {
	p.base.open()
	if previous == nil {
		return
	}
	for _, v := range previous.called() {
		if l := p.Lane(v.Name); l != nil {
			p.viewIn(l).open()
		}
	}
	if p.differ {
		p.methods = previous.needs()
	}
}

// called returns the views that calls have used.
func (p *plan) called() []*view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.open[:len(p.open):len(p.open)]
}

// isBest reports whether no endpoint that etcd has is in an earlier class than c, a class that is not live.
func (p *plan) isBest(c planning.Class) bool {
	return p.Live == 0 && (c == planning.Away || len(p.Fallback()) == 0)
}

// picksSome reports whether a connection may use only some of the live endpoints.
func (p *plan) picksSome() bool { return p.traits.Single || p.Chooses() }

// selectsByReadiness reports whether the selection of connections depends on calls and on readiness.
func (p *plan) selectsByReadiness() bool { return p.picksSome() || p.Live < len(p.All) }

// outside yields the indexes in All, except those of the first prefix and of the last suffix live endpoints.
func (p *plan) outside(prefix, suffix int) iter.Seq[int] {
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

// view is a lane, or the base, with its groups. All views of a plan share its connections.
type view struct {
	*planning.Lane
	plan   *plan
	base   *view     // takes calls that this view cannot take; nil for the base and for strict lanes
	groups [][]*tier // the tiers of each group, in order of preference; set by open
	texts  []string  // distinct method lists of the endpoints, set by open; nil if all are equal, or there are too many

	making sync.Mutex // held while the next snapshot is made
	last   atomic.Pointer[snapshot]
}

// open divides the endpoints of the view's lane into groups and tiers. It returns false if the view is open already.
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

// tier is a tier of a group, and which of its members the connection uses.
type tier struct {
	planning.Tier
	group *planning.Group
	used  atomic.Pointer[picking.Tier]
	first atomic.Pointer[conn] // under pick_first, the connection that takes all calls; set by the core; may be nil
}

func (p *plan) makeTier(group *planning.Group, of planning.Tier) *tier {
	if p.traits.Shuffles {
		of.Members = p.Rank(of.Members)
	}
	if p.traits.Single && of.Class != planning.Left {
		of.Most = 1
	}
	t := &tier{Tier: of, group: group}
	t.setMembers(p, of.Members[:cmp.Or(of.Most, len(of.Members))])
	return t
}

// setMembers sets which members of a tier the connection uses.
func (t *tier) setMembers(p *plan, members []int32) {
	if t.Most > 0 {
		members = slices.Sorted(slices.Values(members))
	}
	if now := t.used.Load(); now == nil || !slices.Equal(now.Members, members) {
		t.used.Store(picking.NewTier(members, &p.rings, func() ([]string, []uint64) { return p.ringOf(members) }))
	}
}

// ringOf returns the names and weights from which picking makes the members' ring.
func (p *plan) ringOf(members []int32) (names []string, weights []uint64) {
	names, weights = make([]string, len(members)), make([]uint64, len(members))
	for i, m := range members {
		ep, before := p.All[m], ""
		if m > 0 {
			before = instance(p.All[m-1])
		}
		names[i], weights[i] = endpoint.RingName(instance(ep), address(ep), before), weightOf(ep)
	}
	return names, weights
}

// anyBefore reports whether any connection in a tier before class has one of the given readinesses.
func (v *view) anyBefore(class planning.Class, of ...readiness) bool {
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

// methodsDiffer reports whether the endpoints list different methods. Those in the prefix and suffix are also in the previous plan.
func (p *plan) methodsDiffer(previous *plan, prefix, suffix int) bool {
	if prefix+suffix == 0 || previous.differ {
		return slices.ContainsFunc(p.All, func(b *attr.Backend) bool { return b.Methods != p.All[0].Methods })
	}
	for i := range p.outside(prefix, suffix) {
		if p.All[i].Methods != previous.All[0].Methods {
			return true
		}
	}
	return false
}

// methodTexts returns the distinct method lists of members, or nil if there are more than methods.MaxTexts.
func (p *plan) methodTexts(members []int32) (texts []string) {
	for _, m := range members {
		text := p.All[m].Methods
		switch {
		case len(texts) > 0 && text == texts[len(texts)-1], slices.Contains(texts, text):
		case len(texts) == methods.MaxTexts:
			return nil
		default:
			texts = append(texts, text)
		}
	}
	return texts
}

// lacking returns the method lists, among those of the view's endpoints, that lack a method. The view must be open.
func (v *view) lacking(method string) []string {
	var others []string
	if v.base != nil {
		others = v.base.texts // set, because every plan opens its base
	}
	return methods.Lacking(method, v.texts, others)
}

// maxMethod bounds the length of method names that are looked up in method lists. No server has longer names.
const maxMethod = 1024

// methodOf returns the method that the endpoint of a call must serve, or "" if any endpoint will do.
func (p *plan) methodOf(info *balancer.PickInfo) string {
	if !p.differ || len(info.FullMethodName) > maxMethod {
		return ""
	}
	return info.FullMethodName
}

// maxMethods bounds the methods that a plan keeps. A caller other than a proxy calls few methods.
const maxMethods = 64

// need records a method that a call needs and some endpoints lack. Then the core connects to an endpoint with the method.
func (p *plan) need(method string) {
	if !p.picksSome() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Contains(p.methods, method) {
		p.methods = append(p.methods[max(0, len(p.methods)+1-maxMethods):len(p.methods):len(p.methods)], method)
		p.opened()
	}
}

// needs returns the methods that calls need and that some endpoints lack.
func (p *plan) needs() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.methods[:len(p.methods):len(p.methods)]
}
