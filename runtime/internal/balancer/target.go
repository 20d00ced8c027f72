package balancer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// targetRef names the instance that a call goes to.
type targetRef struct {
	instance string
	sequence uint64 // of the key's state that the instance is from; 0: any
	waits    bool   // the call, which is wait-for-ready, waits while the instance is not there
}

// WithTarget has the calls made with ctx go to the given instance.
func WithTarget(ctx context.Context, instance string) context.Context {
	return WithTargetAt(ctx, instance, 0)
}

// WithTargetAt is WithTarget for an instance from the key's state with the given sequence: the calls wait
// until the policy has that state.
func WithTargetAt(ctx context.Context, instance string, sequence uint64) context.Context {
	return wishing(ctx, func(w *wishes) { w.target, w.named = targetRef{instance: instance, sequence: sequence}, true })
}

// Target returns the instance that the calls made with ctx go to, if they name one.
func Target(ctx context.Context) (instance string, ok bool) {
	w := wishesOf(ctx)
	return w.target.instance, w.named
}

// targets holds the instances that calls have named. A pick takes only its lock, which is held for
// moments: an update does its work on all targets without it.
type targets struct {
	policy *policy
	known  atomic.Pointer[known] // nil: nothing was handed down yet

	mu         sync.RWMutex
	byInstance map[string]*target
}

// known is what the policy was last told of the key.
type known struct {
	service   string
	endpoints []resolver.Endpoint // sorted by instance
	client    *attr.Client
	sequence  uint64
	pending   bool
}

// target is an instance that calls have named. It shares the SubConn of the policies below, or opens one,
// and ends when the instance leaves.
type target struct {
	instance  string
	addresses []resolver.Address
	state     atomic.Pointer[targetState]
	station   *station
	subConn   *subConn // guarded by policy.calls; nil until it is made
}

// targetState is the state of a target's SubConn.
type targetState struct {
	connectivity connectivity.State
	err          error // in TransientFailure: why
	conn         balancer.SubConn
}

// pick picks the connection to an instance; it never picks another.
func (t *targets) pick(ref targetRef) (balancer.PickResult, error) {
	t.mu.RLock()
	x := t.byInstance[ref.instance]
	t.mu.RUnlock()
	if x == nil {
		return balancer.PickResult{}, t.open(ref)
	}
	switch s := x.state.Load(); s.connectivity {
	case connectivity.Ready:
		return t.within(x, s.conn)
	case connectivity.Idle:
		t.policy.queue.put(func() { x.connect() })
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	case connectivity.TransientFailure:
		return balancer.PickResult{}, fmt.Errorf("etcd: instance %.200q at %q: %w", x.instance, x.addresses[0].Addr, s.err)
	default: // Connecting, or Shutdown: a picker that knows that the instance has left is about to follow
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
}

// within returns the connection to a target, unless as many calls are under way there as may be.
func (t *targets) within(x *target, conn balancer.SubConn) (balancer.PickResult, error) {
	most := t.policy.stations.terms.Load().most
	switch {
	case most == 0:
		return balancer.PickResult{SubConn: conn}, nil
	case x.station.enter(most):
		return balancer.PickResult{SubConn: conn, Done: hold(x.station, nil)}, nil
	}
	return balancer.PickResult{}, status.Errorf(codes.Unavailable,
		"etcd: instance %.200q of %q has %d calls under way, as many as max_concurrent_requests allows", x.instance, t.policy.stations.service, most)
}

// open makes a target for an instance, and returns the error for the call that named it.
func (t *targets) open(ref targetRef) error {
	k := t.known.Load()
	if k == nil {
		return balancer.ErrNoSubConnAvailable
	}
	ep, err := k.find(ref)
	if err != nil {
		return err
	}
	x := &target{instance: ref.instance, addresses: ep.Addresses, station: t.policy.stations.at(address(ep))}
	x.state.Store(&targetState{connectivity: connectivity.Connecting})
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byInstance == nil {
		t.byInstance = make(map[string]*target)
	}
	if t.byInstance[ref.instance] == nil {
		t.byInstance[ref.instance] = x
		// gRPC holds locks of its own while it makes a SubConn, and this is the path of a call.
		t.policy.queue.put(func() { t.connect(x) })
	}
	return balancer.ErrNoSubConnAvailable
}

// find returns the endpoint of an instance, or the error for a call to it.
func (k *known) find(ref targetRef) (resolver.Endpoint, error) {
	i := sort.Search(len(k.endpoints), func(i int) bool { return instance(k.endpoints[i]) >= ref.instance })
	if i < len(k.endpoints) {
		if e := attr.Endpoint(k.endpoints[i]); e != nil && e.Instance == ref.instance {
			if k.client.Selector != nil && !k.client.Selector(e) {
				return resolver.Endpoint{}, status.Errorf(codes.Unavailable,
					"etcd: instance %.200q of %q is not selected for this connection", ref.instance, k.service)
			}
			return k.endpoints[i], nil
		}
	}
	switch {
	case k.pending || k.sequence < ref.sequence:
		return resolver.Endpoint{}, balancer.ErrNoSubConnAvailable
	case ref.waits: // no status, with which gRPC would end the call
		return resolver.Endpoint{}, fmt.Errorf("etcd: the leader %.200q of %q is not registered", ref.instance, k.service)
	}
	return resolver.Endpoint{}, status.Errorf(codes.Unavailable,
		"etcd: no instance %.200q is registered under %q", ref.instance, k.service)
}

// stays reports whether a target's instance is still there, at the same address.
func (k *known) stays(x *target) bool {
	ep, err := k.find(targetRef{instance: x.instance})
	return err == nil && ep.Addresses[0].Addr == x.addresses[0].Addr
}

// connect is the event that open queues.
func (t *targets) connect(x *target) {
	if t.policy.closed {
		return
	}
	if !t.known.Load().stays(x) {
		t.drop([]*target{x}) // it left just now
		return
	}
	w, err := t.policy.pool.newSubConn(nil, x.addresses, balancer.NewSubConnOptions{
		StateListener: func(s balancer.SubConnState) { t.changed(x, s) },
	})
	if err != nil {
		t.changed(x, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: err})
		return
	}
	x.subConn = w
	w.Connect()
}

// connect has a target that is idle connect.
func (x *target) connect() {
	if x.subConn != nil {
		x.subConn.Connect()
	}
}

// changed takes a state of a target's SubConn, and has the waiting calls pick again.
func (t *targets) changed(x *target, s balancer.SubConnState) {
	if x.state.Load().connectivity == connectivity.Shutdown {
		return
	}
	state := &targetState{connectivity: s.ConnectivityState, err: s.ConnectionError}
	if x.subConn != nil {
		state.conn = x.subConn.real()
	}
	x.state.Store(state)
	t.policy.dirty = true
}

// update takes a new state of the key, and ends the targets whose instances have left or moved. Calls
// under way finish.
func (t *targets) update(k *known) {
	t.known.Store(k)
	t.drop(slices.DeleteFunc(t.all(), k.stays))
}

// all returns all targets.
func (t *targets) all() []*target {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Collect(maps.Values(t.byInstance))
}

// drop ends targets.
func (t *targets) drop(gone []*target) {
	for some := range slices.Chunk(gone, atOnce) {
		t.forget(some)
		for _, x := range some {
			if x.subConn != nil {
				x.subConn.Shutdown()
			}
		}
		t.policy.dirty = true
	}
}

func (t *targets) forget(some []*target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, x := range some {
		x.state.Store(&targetState{connectivity: connectivity.Shutdown})
		if t.byInstance[x.instance] == x {
			delete(t.byInstance, x.instance)
		}
	}
}
