package balancer

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// picker picks for one call. It takes no lock, and allocates nothing, unless a header names lanes or hashes.
type picker struct {
	targets *targets
	epoch   uint64 // grows with each picker of the policy
	leader  *leader
	plan    *plan
	old     *plan  // serves what plan cannot yet; nil: there is none
	gone    []bool // the endpoints of old that may not be called any more
}

// Pick implements [balancer.Picker].
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	w := wishesOf(info.Ctx)
	if w.named {
		return p.targets.pick(w.target)
	}
	if p.leader.has(info.FullMethodName) {
		return p.leader.pick(p.targets)
	}
	plan, of := p.plan, p.plan.instead
	switch {
	case of != nil:
		return balancer.PickResult{}, of.err
	case plan.below != nil && p.old == nil:
		return plan.below.pick(info)
	case p.old != nil && !p.serves(&info, w):
		if plan = p.old; plan.below != nil {
			return plan.below.pick(info)
		}
	}
	c, err := p.pick(plan, &info, w)
	if err != nil && plan == p.old && p.plan.below == nil {
		plan = p.plan
		c, err = p.pick(plan, &info, w)
	}
	if err != nil {
		return balancer.PickResult{}, err
	}
	result := balancer.PickResult{SubConn: c.now.Load().subConn}
	if plan.counts {
		result.Done = recorded(c.station, plan.traits.times)
	}
	if result.SubConn == nil { // it was lost just now, and another picker is about to follow
		if result.Done != nil {
			result.Done(balancer.DoneInfo{})
		}
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
	return result, nil
}

// serves reports whether the plan serves a call, rather than the old one.
func (p *picker) serves(info *balancer.PickInfo, w *wishes) bool {
	if p.plan.below != nil {
		return false
	}
	r, err := p.plan.route(info, w)
	if err != nil {
		return true
	}
	r.first.stand(p.epoch, nil)
	return r.first.settled.Load()
}

// pick picks by a plan.
func (p *picker) pick(plan *plan, info *balancer.PickInfo, w *wishes) (*conn, error) {
	r, err := plan.route(info, w)
	if err != nil {
		return nil, err
	}
	s := r.first.stand(p.epoch, p.goneOf(plan))
	if len(s.groups) > 0 || r.then == nil || !s.yields {
		c, err := plan.take(info.Ctx, w, s)
		if err == nil {
			return c, nil
		}
		if !errors.Is(err, errFull) || r.then == nil {
			return nil, r.first.explain(err)
		}
	}
	c, err := plan.take(info.Ctx, w, r.then.stand(p.epoch, p.goneOf(plan)))
	return c, r.then.explain(err)
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

// take returns where a call goes by a standing. Where calls are counted, it is.
func (p *plan) take(ctx context.Context, w *wishes, s *standing) (*conn, error) {
	if len(s.groups) == 0 {
		return nil, s.otherwise
	}
	chosen, leaves := s.choose(w, &p.sequence)
	for n := range s.groups {
		g := &s.groups[(chosen+n)%len(s.groups)]
		if n == 0 && leaves {
			if c, err := p.takeFrom(ctx, w, g.sets[g.away]); !errors.Is(err, errFull) {
				return c, err
			}
		}
		for _, set := range g.sets {
			if c, err := p.takeFrom(ctx, w, set); !errors.Is(err, errFull) {
				return c, err
			}
		}
	}
	return nil, errFull
}

// takeFrom returns the instance of a set that a call goes to.
func (p *plan) takeFrom(ctx context.Context, w *wishes, s *set) (*conn, error) {
	for {
		i := p.in.config.way.pick(ctx, w, s)
		switch i {
		case full:
			return nil, errFull
		case wait:
			return nil, balancer.ErrNoSubConnAvailable
		}
		if c := s.conns[i]; !p.counts || c.enter(s.most) {
			return c, nil
		}
	}
}

// explain returns the error for a call that a view has no endpoint for.
func (v *view) explain(err error) error {
	switch {
	case err == nil || errors.Is(err, balancer.ErrNoSubConnAvailable):
		return err
	case errors.Is(err, errFull):
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
