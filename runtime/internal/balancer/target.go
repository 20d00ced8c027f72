package balancer

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// WithTarget has the calls made with ctx go to the given instance.
func WithTarget(ctx context.Context, instance string) context.Context {
	return WithTargetAt(ctx, instance, "", 0)
}

// WithTargetAt is WithTarget for an instance at an address, from the key's state with the given sequence: the calls wait
// until the policy has that state.
func WithTargetAt(ctx context.Context, instance, addr string, sequence uint64) context.Context {
	return wishing(ctx, func(w *wishes) {
		w.target, w.named = targetRef{instance: instance, addr: addr, sequence: sequence}, true
	})
}

// Target returns the instance that the calls made with ctx go to, if they name one.
func Target(ctx context.Context) (instance string, ok bool) {
	w := wishesOf(ctx)
	return w.target.instance, w.named
}

// targets holds the connections to instances that calls have named. Picks take no lock.
type targets struct {
	core       *core
	queue      *queue
	remembered func(addr string) *station
	now        func() time.Time

	known atomic.Pointer[known] // nil: nothing was handed down yet
	conns sync.Map              // by targetKey
}

// targetKey is how calls name an instance.
type targetKey struct{ instance, addr string }

// target is an instance that calls have named. Its connection is one of the set's, and stays until the instance leaves.
type target struct {
	instance string
	conn     *conn
}

// known is what the policy was last told of the key.
type known struct {
	service   string
	endpoints []resolver.Endpoint // sorted by instance
	client    *attr.Client
	sequence  uint64
	pending   bool
	err       error // why there are no endpoints
	most      int64 // calls under way at one instance; 0: no bound
}

// pick picks the connection to an instance; it never picks another.
func (t *targets) pick(ref targetRef) (balancer.PickResult, error) {
	x, ok := t.conns.Load(targetKey{ref.instance, ref.addr})
	if !ok {
		return balancer.PickResult{}, t.open(ref)
	}
	c := x.(*target).conn
	switch now := c.now.Load(); now.kind {
	case ready:
		return t.within(x.(*target), now.subConn)
	case failing:
		return balancer.PickResult{}, fmt.Errorf("etcd: instance %.200q at %q: %w", ref.instance, c.addr, now.err)
	}
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// within returns the connection to a target, unless as many calls are under way there as may be.
func (t *targets) within(x *target, subConn balancer.SubConn) (balancer.PickResult, error) {
	most := t.known.Load().most
	switch {
	case most == 0:
		return balancer.PickResult{SubConn: subConn}, nil
	case x.conn.enter(most):
		return balancer.PickResult{SubConn: subConn, Done: recorded(x.conn.station, false)}, nil
	}
	return balancer.PickResult{}, status.Errorf(codes.Unavailable,
		"etcd: instance %.200q of %q has %d calls under way, as many as max_concurrent_requests allows", x.instance, t.known.Load().service, most)
}

// open has the policy connect to an instance, and returns the error for the call that named it.
func (t *targets) open(ref targetRef) error {
	k := t.known.Load()
	if k == nil {
		return balancer.ErrNoSubConnAvailable
	}
	if _, err := k.find(ref); err != nil {
		return err
	}
	// gRPC holds locks of its own while it makes a SubConn, and this is the path of a call.
	t.queue.put(func() { t.connect(ref) })
	return balancer.ErrNoSubConnAvailable
}

// connect is the event that open queues.
func (t *targets) connect(ref targetRef) {
	key := targetKey{ref.instance, ref.addr}
	if _, ok := t.conns.Load(key); ok {
		return
	}
	ep, err := t.known.Load().find(ref)
	if err != nil {
		t.core.out.publish = true // it left just now
		return
	}
	t.conns.Store(key, &target{ref.instance, t.core.name(ep, t.remembered, t.now())})
	t.core.out.publish = true
}

// find returns the endpoint of an instance, or the error for a call to it.
func (k *known) find(ref targetRef) (*resolver.Endpoint, error) {
	first := sort.Search(len(k.endpoints), func(i int) bool { return instance(&k.endpoints[i]) >= ref.instance })
	var found *resolver.Endpoint
	for i := first; i < len(k.endpoints) && instance(&k.endpoints[i]) == ref.instance; i++ {
		if found == nil || address(&k.endpoints[i]) == ref.addr {
			found = &k.endpoints[i]
		}
	}
	switch {
	case found != nil && !isSelected(found, k.client):
		return nil, status.Errorf(codes.Unavailable, "etcd: instance %.200q of %q is not selected for this connection", ref.instance, k.service)
	case found != nil:
		return found, nil
	case k.pending || k.sequence < ref.sequence:
		return nil, balancer.ErrNoSubConnAvailable
	case ref.waits: // no status, with which gRPC would end the call
		return nil, fmt.Errorf("etcd: the leader %.200q of %q is not registered", ref.instance, k.service)
	case k.err != nil:
		return nil, status.Errorf(codes.Unavailable, "etcd: no instance %.200q of %q is known: %v", ref.instance, k.service, k.err)
	}
	return nil, status.Errorf(codes.Unavailable, "etcd: no instance %.200q is registered under %q", ref.instance, k.service)
}

// update takes a new state of the key, and ends the targets whose instances have left or moved. Calls under way finish.
func (t *targets) update(k *known) {
	t.known.Store(k)
	now := t.now()
	var stay []*conn // a connection may have two names
	t.conns.Range(func(key, x any) bool {
		of := key.(targetKey)
		ep, err := k.find(targetRef{instance: of.instance, addr: of.addr})
		c := x.(*target).conn
		if err == nil && address(ep) == c.addr {
			stay = append(stay, c)
			return true
		}
		t.conns.Delete(key)
		t.core.forget(c, now)
		return true
	})
	for _, c := range stay {
		t.core.keep(c)
	}
}
