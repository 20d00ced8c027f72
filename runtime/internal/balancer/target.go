package balancer

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// targets holds the connections to instances that calls have named. Picks of
// known targets take no lock.
type targets struct {
	core  *core
	queue *queue
	now   func() time.Time

	// from targetKey to *conn; an entry stays while its instance is registered
	// at the address
	conns sync.Map

	named atomic.Int64 // the size of conns
}

// targetKey identifies an instance that calls have named.
type targetKey struct{ instance, addr string }

// pick returns the connection to the target's instance. role is the role of the
// route, or "" if the call names its instance. A routed call waits while the
// instance is not registered.
func (t *targets) pick(
	p *connPlan,
	target calloptions.Target,
	role string,
) (balancer.PickResult, error) {
	x, ok := t.conns.Load(targetKey{target.Instance, target.Addr})
	if !ok {
		return t.request(p, target, role)
	}

	conn := x.(*conn)
	switch is := conn.current.Load(); {
	case is.subConn != nil:
		return p.underLimit(target.Instance, conn, is.subConn)
	case is.readiness == failing:
		return balancer.PickResult{}, fmt.Errorf("etcd: instance %.200q at %q: %w",
			target.Instance, conn.addr, is.err)
	}

	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// underLimit returns the connection to an instance, or an error if the instance
// has max_concurrent_requests calls under way.
func (p *connPlan) underLimit(
	instance string,
	conn *conn,
	subConn balancer.SubConn,
) (balancer.PickResult, error) {
	limit := int64(p.Config.MaxConcurrentRequests)
	switch {
	case limit == 0:
		return balancer.PickResult{SubConn: subConn}, nil
	case conn.stats.Begin(limit):
		return balancer.PickResult{
			SubConn: subConn,
			Done:    conn.stats.End(false, false),
		}, nil
	}

	return balancer.PickResult{}, status.Errorf(codes.Unavailable,
		"etcd: instance %.200q of %q has %d calls under way, the limit by max_concurrent_requests", instance, p.Service, limit)
}

// request queues an event that connects to an instance, and returns the error
// for the call that named the instance. If the instance has departed, but is
// still connected, request picks that connection. A departed leader gets no
// calls.
func (t *targets) request(
	p *connPlan,
	target calloptions.Target,
	role string,
) (none balancer.PickResult, err error) {
	if ep, err := p.in.find(target, role); err != nil {
		conn, subConn := p.departedAt(target)
		if ep == nil && role == "" && subConn != nil {
			return p.underLimit(target.Instance, conn, subConn)
		}

		return none, err
	}

	if t.isFull(p, role) {
		return none, status.Errorf(codes.Unavailable,
			"etcd: calls have named %d instances of %q, the limit of one client: see runtime.WithLimits",
			p.Client.Most, p.Service)
	}

	// An event makes the connection, because gRPC takes locks to make a
	// SubConn, and a pick must not wait for locks.
	t.queue.put(func() { t.connect(target, role) })

	return none, balancer.ErrNoSubConnAvailable
}

// isFull reports whether the client's limit of named instances is reached. The
// limit does not apply to routes.
func (t *targets) isFull(p *connPlan, role string) bool {
	most := p.Client.Most
	return role == "" && most > 0 && t.named.Load() >= int64(most)
}

// departedAt returns the connection to a target that has left, and its SubConn,
// which is nil unless it takes calls.
func (p *connPlan) departedAt(target calloptions.Target) (*conn, balancer.SubConn) {
	// if all endpoints have left, the plan counts the last ones as live
	begin := p.Live
	if len(p.in.state.Endpoints) == 0 {
		begin = 0
	}

	for i := begin; i < len(p.All); i++ {
		e := &p.All[i].Endpoint
		if e.Instance == target.Instance &&
			(target.Addr == "" || target.Addr == e.Addr) &&
			(i < p.Live || p.ClassOf(i) == planner.Departed) {
			return p.conns[i], p.conns[i].current.Load().subConn
		}
	}

	return nil, nil
}

// connect handles the event of targets.request: it makes the connection. It
// checks the limit again, because many calls may make requests before the first
// event is handled.
func (t *targets) connect(target calloptions.Target, role string) {
	key := targetKey{target.Instance, target.Addr}
	if _, ok := t.conns.Load(key); ok {
		return
	}

	if t.isFull(t.core.plan, role) {
		t.core.publish() // the call picks again, and fails
		return
	}

	ep, err := t.core.plan.in.find(target, "")
	if err == nil { // an error: the instance has left, and a newer picker follows
		t.conns.Store(key, t.core.pinTarget(ep, t.now()))
		t.named.Add(1)
	}
}

// find returns the endpoint of an instance, or the error for a call to it. For
// an instance that is not selected, it returns both.
func (in *input) find(target calloptions.Target, role string) (*model.Backend, error) {
	var found *model.Backend

	// the first endpoint with the id, and the one at target.Addr, which takes
	// precedence
	all := in.state.Endpoints
	for _, addr := range [...]string{"", target.Addr} {
		i, _ := slices.BinarySearchFunc(all, &model.Backend{
			Endpoint: endpoint.Endpoint{Instance: target.Instance, Addr: addr},
		}, model.Compare)
		if i < len(all) &&
			all[i].Endpoint.Instance == target.Instance &&
			(found == nil || all[i].Endpoint.Addr == addr) {
			found = all[i]
		}
	}

	switch {
	case found != nil &&
		in.Client.Selector != nil &&
		!in.Client.Selector(&found.Endpoint):
		return found, status.Errorf(codes.Unavailable,
			"etcd: instance %.200q of %q is not selected for this connection",
			target.Instance, in.Service)

	case found != nil:
		return found, nil
	case in.state.Pending() || in.state.Sequence < target.Sequence:
		return nil, balancer.ErrNoSubConnAvailable
	case role != "" && in.Err != nil: // not a status error, which would end the call
		return nil, fmt.Errorf("etcd: the %s %.200q of %q is not known: %w", role,
			target.Instance, in.Service, in.Err)
	case role != "":
		return nil, fmt.Errorf("etcd: the %s %.200q of %q is not registered", role,
			target.Instance, in.Service)
	}

	err := fmt.Errorf(
		"etcd: no instance %.200q is registered under %q at an address of its own",
		target.Instance, in.Service)
	if in.Err != nil {
		err = fmt.Errorf("etcd: no instance %.200q of %q is known: %w", target.Instance,
			in.Service, in.Err)
	}

	// A status error ends the call: calls on the Conn of an Instance do not
	// wait until the instance is back.
	if target.Addr != "" {
		err = status.Error(codes.Unavailable, err.Error())
	}

	return nil, err
}

// update handles a new input. It removes the targets whose instances have left
// or moved. Calls under way finish.
func (t *targets) update(in *input) {
	now := t.now()

	// pinned only after all unpins: two targets may have the same connection
	remaining := make(map[*conn]*model.Backend)
	t.conns.Range(func(key, x any) bool {
		id := key.(targetKey)
		c := x.(*conn)
		ep, err := in.find(calloptions.Target{Instance: id.instance, Addr: id.addr}, "")
		if err == nil && ep.Endpoint.Addr == c.addr {
			remaining[c] = ep
			return true
		}

		t.conns.Delete(key)
		t.named.Add(-1)
		t.core.unpin(c, ep == nil)

		return true
	})

	for conn, ep := range remaining {
		t.core.pin(conn, ep, now)
	}
}

// follow picks the connection to the instance of a route. Without a route, the
// call waits. Routed calls are wait-for-ready, so that they also wait for an
// unreachable instance. At their deadline they end with the error of the last
// pick.
func (t *targets) follow(p *connPlan) (balancer.PickResult, error) {
	route := p.in.state.Route
	if route.Instance == "" {
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}

	result, err := t.pick(p, calloptions.Target{Instance: route.Instance}, route.Role)
	if err == nil {
		result.Metadata = p.in.route
	}

	return result, err
}
