package balancer

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// picker picks for one call. It is immutable, and allocates nothing.
type picker struct {
	policy *policy
	routes routes
	views  []viewPicker
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	if instance, ok := Target(info.Ctx); ok {
		return p.policy.pickTarget(instance)
	}
	v := &p.views[p.routes.view(info.FullMethodName)]
	switch len(v.groups) {
	case 0:
		return v.otherwise.Pick(info)
	case 1:
		return v.groups[0].picker.Pick(info)
	}
	if a, ok := info.Ctx.Value(affinityKey{}).(affinity); ok && a.key != "" {
		return v.choose(a.hash).Pick(info)
	}
	return v.choose(p.policy.sequence.next()).Pick(info)
}

// viewPicker picks among the groups that can take calls.
type viewPicker struct {
	groups    []groupPicker
	otherwise balancer.Picker // where there is no group
}

type groupPicker struct {
	upTo   uint64 // the sum of the weights up to and with this group's
	picker balancer.Picker
}

// choose returns the group whose share of the numbers n is in.
func (v *viewPicker) choose(n uint64) balancer.Picker {
	at, _ := bits.Mul64(n, v.groups[len(v.groups)-1].upTo)
	for i := range v.groups {
		if at < v.groups[i].upTo {
			return v.groups[i].picker
		}
	}
	return v.groups[0].picker
}

// sequence yields numbers that are spread evenly over all of uint64, any run of them: multiples of
// the golden ratio, modulo 1. Shares are so kept exactly, not just on average.
type sequence struct{ i atomic.Uint64 }

// shuffle starts anywhere, so that many clients that make one call each do not make the same one.
func (s *sequence) shuffle() { s.i.Store(rand.Uint64()) }

func (s *sequence) next() uint64 { return s.i.Add(1) * 0x9e3779b97f4a7c15 }

// assemble makes the picker of a plan, and the state of the whole, of those of the leaves. It must be
// called with mu held.
func (p *policy) assemble(serving plan) balancer.State {
	out := &picker{policy: p, routes: serving.routes, views: make([]viewPicker, len(serving.views))}
	states := make([]balancer.State, len(serving.views))
	for i, v := range serving.views {
		states[i] = p.assembleView(&out.views[i], v)
	}
	if len(out.views) == 0 {
		c := connecting()
		out.views, states = []viewPicker{{otherwise: c.Picker}}, []balancer.State{c}
	}
	return balancer.State{ConnectivityState: states[0].ConnectivityState, Picker: out}
}

// assembleView returns the view's state: that of its best group.
func (p *policy) assembleView(out *viewPicker, v view) balancer.State {
	best := balancer.State{ConnectivityState: connectivity.Shutdown}
	var weights []uint32
	for _, g := range v.groups {
		state := p.tierInUse(g)
		if better(state, best) {
			best = state
		}
		if usable(state) {
			out.groups = append(out.groups, groupPicker{picker: state.Picker})
			weights = append(weights, g.weight)
		}
	}
	out.otherwise = best.Picker
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
	return best
}

// tierInUse is the state of the first tier that can take calls, or of the one that comes closest.
func (p *policy) tierInUse(g group) balancer.State {
	best := connecting()
	for i, t := range g.tiers {
		state := connecting()
		if l := p.leaves[t.key]; l != nil && l.current != nil {
			state = l.current.state
		}
		if usable(state) {
			return state
		}
		if i == 0 || better(state, best) {
			best = state
		}
	}
	return best
}

// usable tells whether calls can be handed to a picker: one that is idle connects when it is.
func usable(s balancer.State) bool {
	return s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.Idle
}

// better orders states as gRPC aggregates them.
func better(a, b balancer.State) bool {
	rank := func(s balancer.State) int {
		return slices.Index([]connectivity.State{connectivity.Shutdown, connectivity.TransientFailure,
			connectivity.Idle, connectivity.Connecting, connectivity.Ready}, s.ConnectivityState)
	}
	return rank(a) > rank(b)
}

// targetsOnly refuses calls that name no instance, on a connection that is for those that do.
type targetsOnly struct{}

func (targetsOnly) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, status.Error(codes.Unavailable,
		"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
}
