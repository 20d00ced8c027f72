package balancer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// epoch is the number of a policy's newest picker or, if a new picker is due,
// the number of that one. It is incremented before picks can see the change
// that requires a new picker.
type epoch struct{ atomic.Uint64 }

// picker picks connections for calls. If a snapshot for the call's view and
// method exists, a pick neither locks nor allocates, except for lanes and
// hashes from headers.
type picker struct {
	targets *targets
	epoch   uint64
	plan    *connPlan
}

// Pick implements [balancer.Picker].
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	result, err := p.pick(info)
	if err != nil &&
		(p.plan.in.state.Pending() || p.epoch != p.targets.core.epoch.Load()) {
		err = balancer.ErrNoSubConnAvailable // gRPC picks again with the next picker
	}

	return result, err
}

func (p *picker) pick(info balancer.PickInfo) (balancer.PickResult, error) {
	o := calloptions.Of(info.Ctx, p.plan.in.state.Name)
	switch {
	case o.Named:
		return p.targets.pick(p.plan, o.Target, "")
	case p.plan.in.state.Client.Routed[info.FullMethodName]:
		return p.targets.follow(p.plan)
	}

	v, err := p.plan.viewOf(&info, o)
	if err != nil {
		return balancer.PickResult{}, err
	}

	conn, err := p.pickByPlan(info.Ctx, o, v, p.plan.methodOf(&info))
	if err != nil {
		return balancer.PickResult{}, err
	}

	result := balancer.PickResult{SubConn: conn.current.Load().subConn}
	if p.plan.traits.Counts {
		result.Done = conn.stats.End(p.plan.traits.Times, o.Stream)
	}

	if result.SubConn == nil { // the connection was just lost, and a new picker is due
		if result.Done != nil {
			result.Done(balancer.DoneInfo{})
		}

		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}

	return result, nil
}

// viewOf returns the view of a call.
func (p *connPlan) viewOf(
	info *balancer.PickInfo,
	o *calloptions.Options,
) (*view, error) {
	if !p.HasLanes() {
		return p.base, nil
	}

	name := calloptions.LaneOf(info.Ctx, o, p.Config.LaneHeader)
	lane := p.Lane(name)
	if lane == nil {
		return nil, p.LaneError(name)
	}

	return p.views[lane], nil
}

// pickByPlan picks in the view v or, if that view cannot take the call, in its
// base. If every endpoint lacks the method, the call goes to any endpoint, and
// the server answers that it does not serve the method.
func (p *picker) pickByPlan(
	ctx context.Context,
	o *calloptions.Options,
	v *view,
	method string,
) (*conn, error) {
	conn, passOn, err := p.plan.pickFrom(ctx, o, v.asOf(p.epoch, method))
	used := v
	if passOn && v.base != nil {
		used = v.base
		conn, _, err = p.plan.pickFrom(ctx, o, used.asOf(p.epoch, method))
	}

	if errors.Is(err, errLacks) {
		return p.pickByPlan(ctx, o, v, "")
	}

	return conn, used.explain(err)
}

// explain returns the error for the caller of a call that got no endpoint in v.
// err may be nil.
func (v *view) explain(err error) error {
	switch {
	case err == nil || errors.Is(err, balancer.ErrNoSubConnAvailable):
		return err
	case errors.Is(err, errFull):
		return status.Errorf(codes.Unavailable,
			"etcd: each endpoint of %q that the call may go to has %d calls under way, the limit by max_concurrent_requests",
			v.plan.Service, v.plan.Config.MaxConcurrentRequests)

	case v.Strict:
		return fmt.Errorf("etcd: no endpoint of %q in the strict lane %q is ready: %w",
			v.plan.Service, v.Name, err)
	}

	return err
}
