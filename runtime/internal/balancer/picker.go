package balancer

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// picker picks for one call. It takes no lock, and allocates nothing, unless a header names lanes or hashes.
type picker struct {
	policy *policy
	epoch  uint64 // grows with each picker of the policy
	leader *leader
	plan   *plan
	old    *plan  // serves what plan cannot yet; nil: there is none
	gone   []bool // the endpoints of old that may not be called any more
}

// Pick implements [balancer.Picker].
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	w := wishesOf(info.Ctx)
	if w.named {
		return p.policy.targets.pick(w.target)
	}
	if p.leader.has(info.FullMethodName) {
		return p.leader.pick(&p.policy.targets)
	}
	return p.pick(p.plan, info, w)
}

// pick picks by a plan or, where it cannot serve a call yet, by the old one.
func (p *picker) pick(plan *plan, info balancer.PickInfo, w *wishes) (balancer.PickResult, error) {
	switch {
	case plan.instead != nil:
		return balancer.PickResult{}, plan.instead.err
	case plan.below != nil && plan == p.plan && p.old != nil: // until it has published something
		return p.pick(p.old, info, w)
	case plan.below != nil:
		return plan.below.pick(info)
	}
	route, err := plan.route(info, w)
	if err != nil {
		return balancer.PickResult{}, err
	}
	first, then := route.first, route.then
	s := first.stand(p)
	if plan == p.plan && p.old != nil && !first.settled.Load() {
		if result, err := p.pick(p.old, info, w); err == nil {
			return result, nil
		}
	}
	if len(s.groups) > 0 || then == nil || !s.yields {
		result, err := plan.take(info, w, s)
		if err != errFull || then == nil {
			return result, first.explain(err)
		}
	}
	result, err := plan.take(info, w, then.stand(p))
	return result, then.explain(err)
}

// goneOf returns which endpoints of a plan may not be called any more, nil if all may.
func (p *picker) goneOf(plan *plan) []bool {
	if plan == p.old {
		return p.gone
	}
	return nil
}

// errFull says that all that a call may go to have as many calls under way as may be.
var errFull = errors.New("full")

// take returns where a call goes by a standing.
func (p *plan) take(info balancer.PickInfo, w *wishes, s *standing) (balancer.PickResult, error) {
	if len(s.groups) == 0 {
		return balancer.PickResult{}, s.otherwise
	}
	chosen, leaves := s.choose(w, &p.sequence)
	for n := range s.groups {
		g := &s.groups[(chosen+n)%len(s.groups)]
		if n == 0 && leaves {
			if result, err := p.takeFrom(info, w, g.sets[g.away]); err != errFull {
				return result, err
			}
		}
		for _, set := range g.sets {
			if result, err := p.takeFrom(info, w, set); err != errFull {
				return result, err
			}
		}
	}
	return balancer.PickResult{}, errFull
}

// takeFrom returns the instance of a set that a call goes to.
func (p *plan) takeFrom(info balancer.PickInfo, w *wishes, s *set) (balancer.PickResult, error) {
	for {
		i := p.in.config.way.pick(info.Ctx, w, s)
		if i < 0 {
			return balancer.PickResult{}, errFull
		}
		c := s.conns[i]
		subConn := c.now.Load().subConn
		switch {
		case subConn == nil: // it was lost just now, and another picker is about to follow
			return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
		case !p.traits.counts && s.most == 0:
			return balancer.PickResult{SubConn: subConn}, nil
		case c.enter(s.most):
			return balancer.PickResult{SubConn: subConn, Done: recorded(c.station, p.traits.times)}, nil
		}
	}
}

// explain returns the error for a call that a view has no endpoint for.
func (v *view) explain(err error) error {
	switch {
	case err == nil || err == balancer.ErrNoSubConnAvailable:
		return err
	case err == errFull:
		return status.Errorf(codes.Unavailable,
			"etcd: each endpoint of %q that the call may go to has %d calls under way, as many as max_concurrent_requests allows",
			v.plan.in.service, v.plan.in.config.MaxConcurrentRequests)
	case v.lane.strict:
		return fmt.Errorf("etcd: no endpoint of %q in the lane %q, which is strict, is ready: %w", v.plan.in.service, v.lane.name, err)
	}
	return err
}

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
