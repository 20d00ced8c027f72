package balancer

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// picker picks for one call. It is immutable, takes no lock, and allocates nothing, unless a header names lanes.
type picker struct {
	policy *policy
	leader *leader
	routes routes
	lanes  *lanes // nil: there are none
	views  []viewPicker
}

// Pick implements [balancer.Picker]. The policies below know connections by our wrappers; gRPC wants
// its own, which are unwrapped here and nowhere else.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	w := wishesOf(info.Ctx)
	if w.named {
		return p.policy.targets.pick(w.target)
	}
	if p.leader.has(info.FullMethodName) {
		return p.leader.pick(&p.policy.targets)
	}
	v, err := p.view(w, info)
	if err != nil {
		return balancer.PickResult{}, err
	}
	below := p.below(w, v)
	if most := p.policy.stations.terms.Load().most; most > 0 {
		return p.bounded(below, info, most)
	}
	result, err := below.Pick(info)
	if c, ok := result.SubConn.(*subConn); ok {
		result.SubConn = c.real()
	}
	return result, err
}

// view returns the view of a call's method and lane, or the error if a strict lane has none.
func (p *picker) view(w *wishes, info balancer.PickInfo) (*viewPicker, error) {
	if p.lanes != nil {
		if lane := laneOf(info.Ctx, w, p.lanes.header); lane != "" {
			switch i := p.lanes.view(lane, info.FullMethodName); {
			case i == noView:
				return nil, p.lanes.empty(lane)
			case i != theBase && (len(p.views[i].groups) > 0 || !p.views[i].yields):
				return &p.views[i], nil
			}
		}
	}
	return &p.views[p.routes.view(info.FullMethodName)], nil
}

// below returns the picker of the policy below that a call goes to.
func (p *picker) below(w *wishes, v *viewPicker) balancer.Picker {
	switch {
	case len(v.groups) == 0:
		return v.otherwise
	case len(v.groups) == 1 && v.spills == nil:
		return v.groups[0].picker
	}
	if w.affinity.key != "" {
		return v.chooseFor(w.affinity.hash, &p.policy.sequence)
	}
	return v.choose(p.policy.sequence.next())
}

// viewPicker picks among the groups that can take calls.
type viewPicker struct {
	groups    []groupPicker
	spills    []spillPicker   // one for each group; nil: no calls leave the client's zone
	otherwise balancer.Picker // if there is no group
	yields    bool            // if there is no group, the base takes the calls
}

type groupPicker struct {
	upTo   uint64 // the sum of the weights up to and with this group's
	picker balancer.Picker
}

// spillPicker takes the calls of a group that leave the client's zone: the last of its share.
type spillPicker struct {
	from   uint64 // the sum up to which the group's calls stay
	picker balancer.Picker
}

// choose returns the picker in whose share n lies.
func (v *viewPicker) choose(n uint64) balancer.Picker {
	at, _ := bits.Mul64(n, v.total())
	return v.at(v.group(at), at)
}

// chooseFor returns the picker for a call with an affinity, whose hash chooses the group alone: of a key's calls as many
// leave the zone as of any other's.
func (v *viewPicker) chooseFor(hash uint64, s *sequence) balancer.Picker {
	at, _ := bits.Mul64(hash, v.total())
	i := v.group(at)
	if v.spills == nil {
		return v.groups[i].picker
	}
	begin := uint64(0)
	if i > 0 {
		begin = v.groups[i-1].upTo
	}
	at, _ = bits.Mul64(s.next(), v.groups[i].upTo-begin)
	return v.at(i, begin+at)
}

func (v *viewPicker) total() uint64 { return v.groups[len(v.groups)-1].upTo }

// group returns the index of the group in whose share at lies.
func (v *viewPicker) group(at uint64) int {
	for i := range v.groups {
		if at < v.groups[i].upTo {
			return i
		}
	}
	return 0
}

// at returns the picker of a group for a place in its share.
func (v *viewPicker) at(group int, at uint64) balancer.Picker {
	if v.spills != nil && at >= v.spills[group].from {
		return v.spills[group].picker
	}
	return v.groups[group].picker
}

// sequence yields numbers of which any run is spread evenly over all of uint64: multiples of the golden
// ratio, modulo 1. So shares are kept exactly, not just on average.
type sequence struct{ i atomic.Uint64 }

// shuffle starts the sequence anywhere, so that many clients that make one call each choose differently.
func (s *sequence) shuffle() { s.i.Store(rand.Uint64()) }

func (s *sequence) next() uint64 { return s.i.Add(1) * 0x9e3779b97f4a7c15 }

func connecting() balancer.State {
	return balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
}

// assemble returns the state of a generation, with the picker made of its leaves'.
func (p *policy) assemble(g *generation) balancer.State {
	if g.plan.instead != nil {
		return p.only(*g.plan.instead)
	}
	out := &picker{policy: p, leader: p.leader, routes: g.plan.routes, lanes: g.plan.lanes, views: make([]viewPicker, len(g.plan.views))}
	for i := range g.plan.views {
		v := &g.plan.views[i]
		g.assembleView(&out.views[i], v)
		switch {
		case v.strict:
			out.views[i].otherwise = strictPicker{out.views[i].otherwise, g.plan.lanes.service, v.lane}
		case v.lane != "":
			out.views[i].yields = !g.isNew(v)
		}
	}
	return balancer.State{ConnectivityState: g.state(), Picker: out}
}

// only returns a state whose picker serves targets, and leaves all other calls to the picker of s.
func (p *policy) only(s balancer.State) balancer.State {
	s.Picker = &picker{policy: p, leader: p.leader, views: []viewPicker{{otherwise: s.Picker}}}
	return s
}

func (g *generation) assembleView(out *viewPicker, v *view) {
	if out.otherwise = g.best(v).Picker; out.otherwise == nil {
		out.otherwise = connecting().Picker // all endpoints have left, and another plan is about to follow
	}
	heaviest := uint32(0)
	for i := range v.groups {
		if _, ok := g.usableTier(&v.groups[i]); ok {
			heaviest = max(heaviest, v.groups[i].weight)
		}
	}
	for i := range v.groups {
		group := &v.groups[i]
		state, ok := g.usableTier(group)
		switch {
		case !ok:
		case group.weight > 0:
			g.addGroup(out, group, group.weight, state.Picker)
		case heaviest == 0:
			g.addGroup(out, group, 1, state.Picker) // only groups without a share are left
		}
	}
}

// usableTier returns the state of the first tier that can take calls. ok is false if none can.
func (g *generation) usableTier(group *group) (s balancer.State, ok bool) {
	s, ok = g.tierInUse(group)
	return s, ok && usable(s)
}

// weightBits is by how many bits weights are shifted left, for the part of a weight that stays in a zone to be exact.
// The sum of all weights stays below 1<<60.
const weightBits = 20

// addGroup adds the picker of a group, and of what leaves the client's zone.
func (g *generation) addGroup(out *viewPicker, group *group, weight uint32, picker balancer.Picker) {
	begin, wide := uint64(0), uint64(weight)<<weightBits
	if len(out.groups) > 0 {
		begin = out.total()
	}
	out.groups = append(out.groups, groupPicker{begin + wide, picker})
	away, stay := g.spill(group)
	if away != nil && out.spills == nil {
		out.spills = make([]spillPicker, len(out.groups)-1, cap(out.groups))
		for i := range out.spills {
			out.spills[i].from = out.groups[i].upTo
		}
	}
	if out.spills != nil {
		hi, lo := bits.Mul64(wide, stay.n)
		part, _ := bits.Div64(hi, lo, stay.of)
		out.spills = append(out.spills, spillPicker{begin + part, away})
	}
}

// strictPicker adds the lane to the errors of a strict lane of which no endpoint is ready.
type strictPicker struct {
	balancer.Picker
	service, lane string
}

func (p strictPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := p.Picker.Pick(info)
	if err != nil && !errors.Is(err, balancer.ErrNoSubConnAvailable) {
		err = fmt.Errorf("etcd: no endpoint of %q in the lane %q, which is strict, is ready: %w", p.service, p.lane, err)
	}
	return result, err
}

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
