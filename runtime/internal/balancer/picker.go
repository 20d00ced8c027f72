package balancer

import (
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"slices"
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
	routes routes
	lanes  *lanes // nil: there are none
	views  []viewPicker
}

// Pick implements [balancer.Picker]. The policies below know connections by our wrappers; gRPC wants
// its own, which are unwrapped here and nowhere else.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	if t, ok := info.Ctx.Value(targetKey{}).(targetRef); ok {
		return p.policy.targets.pick(t)
	}
	v, err := p.view(info)
	if err != nil {
		return balancer.PickResult{}, err
	}
	result, err := p.below(v, info).Pick(info)
	if w, ok := result.SubConn.(*subConn); ok {
		result.SubConn = w.real()
	}
	return result, err
}

// view returns the view of a call's method and lane, or the error if a strict lane has none.
func (p *picker) view(info balancer.PickInfo) (*viewPicker, error) {
	i := p.routes.view(info.FullMethodName)
	if p.lanes != nil {
		if lane := laneOf(info.Ctx, p.lanes.header); lane != "" {
			if i = p.lanes.view(lane, i); i == noView {
				return nil, p.lanes.empty(lane)
			}
		}
	}
	v := &p.views[i]
	for len(v.groups) == 0 && v.next != nil {
		v = v.next
	}
	return v, nil
}

// below returns the picker of the policy below that a call goes to.
func (p *picker) below(v *viewPicker, info balancer.PickInfo) balancer.Picker {
	switch len(v.groups) {
	case 0:
		return v.otherwise
	case 1:
		return v.groups[0].picker
	}
	if a, ok := info.Ctx.Value(affinityKey{}).(affinity); ok && a.key != "" {
		return v.choose(a.hash)
	}
	return v.choose(p.policy.sequence.next())
}

// viewPicker picks among the groups that can take calls.
type viewPicker struct {
	groups    []groupPicker
	otherwise balancer.Picker // if there is no group
	next      *viewPicker     // if there is no group: the view that takes the calls; nil: none
}

type groupPicker struct {
	upTo   uint64 // the sum of the weights up to and with this group's
	picker balancer.Picker
}

// choose returns the picker of the group in whose share n lies.
func (v *viewPicker) choose(n uint64) balancer.Picker {
	at, _ := bits.Mul64(n, v.groups[len(v.groups)-1].upTo)
	for i := range v.groups {
		if at < v.groups[i].upTo {
			return v.groups[i].picker
		}
	}
	return v.groups[0].picker
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
	out := &picker{policy: p, routes: g.plan.routes, lanes: g.plan.lanes, views: make([]viewPicker, len(g.plan.views))}
	for i := range g.plan.views {
		v := &g.plan.views[i]
		g.assembleView(&out.views[i], v)
		switch {
		case v.strict:
			out.views[i].otherwise = strictPicker{out.views[i].otherwise, g.plan.lanes.service, v.lane}
		case v.next != noView && !g.isNew(v):
			out.views[i].next = &out.views[v.next]
		}
	}
	return balancer.State{ConnectivityState: g.state(), Picker: out}
}

// only returns a state whose picker serves targets, and leaves all other calls to the picker of s.
func (p *policy) only(s balancer.State) balancer.State {
	s.Picker = &picker{policy: p, views: []viewPicker{{otherwise: s.Picker}}}
	return s
}

func (g *generation) assembleView(out *viewPicker, v *view) {
	var weights []uint32
	for i := range v.groups {
		if state, ok := g.tierInUse(&v.groups[i]); ok && usable(state) {
			out.groups = append(out.groups, groupPicker{picker: state.Picker})
			weights = append(weights, v.groups[i].weight)
		}
	}
	if out.otherwise = g.best(v).Picker; out.otherwise == nil {
		out.otherwise = connecting().Picker // all endpoints have left, and another plan is about to follow
	}
	if slices.Max(append(weights, 0)) == 0 {
		for i := range weights {
			weights[i] = 1 // only groups without a share are left
		}
	}
	// A group that has no share gets no calls while another can take them.
	groups := out.groups[:0]
	sum := uint64(0)
	for i, weight := range weights {
		if weight > 0 {
			sum += uint64(weight)
			groups = append(groups, groupPicker{sum, out.groups[i].picker})
		}
	}
	out.groups = groups
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
