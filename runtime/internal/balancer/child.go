package balancer

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// child is the policy of a leaf, and the ClientConn that this policy sees. Calls of the policy are made
// with policy.calls held; it may call back from anywhere, with its own locks held.
type child struct {
	balancer.ClientConn // gRPC's
	policy              *policy
	leaf                *leaf
	balancer            balancer.Balancer
	ended               bool // it was closed or has panicked, and must not be called any more; guarded by policy.calls
	members             members
	hearsMeanwhile      bool        // see the map of that name
	serving             atomic.Bool // some of its endpoints serve
	lone                atomic.Bool // each of its endpoints has one address
	toldTally           func()      // has takeTally called soon; nil: nothing is counted

	// Guarded by pool.mu.
	subConns  map[string][]*subConn // by address
	released  bool
	replaying bool      // events go to replay, not into the queue
	replay    []func()  // see hear
	tally     readiness // of leaf
	tallied   bool      // an event with tally is in the queue

	mu     sync.Mutex
	told   balancer.State
	queued bool // an event with told is in the queue
}

// newChild builds the policy of a leaf.
func (p *policy) newChild(l *leaf) *child {
	c := &child{ClientConn: p.cc, policy: p, leaf: l, subConns: make(map[string][]*subConn), hearsMeanwhile: hearsMeanwhile[l.policy.name()]}
	if l.counted {
		c.toldTally = func() { p.queue.putFirst(c.takeTally) }
	}
	c.call(func() { c.balancer = l.policy.builder.Build(c, p.opts) })
	return c
}

// call calls the policy below, or a listener of it. If that panics, the policy may have left locks
// locked, so it is never called again.
func (c *child) call(f func()) {
	if c.ended {
		return
	}
	if err := recovered(func() error { f(); return nil }); err != nil {
		c.ended = true
		c.policy.broken = append(c.policy.broken, brokenLeaf{c.leaf, err})
		c.policy.pool.release(c)
	}
}

// readsEndpoints lists the policies that are known to read a state's Endpoints. Others are given
// Addresses as well.
var readsEndpoints = map[string]bool{
	serviceconfig.RoundRobinName: true, serviceconfig.PickFirstName: true, serviceconfig.LeastRequestName: true,
	serviceconfig.RingHashName: true, serviceconfig.WeightedRoundRobinName: true, serviceconfig.WeightedName: true,
	serviceconfig.PeakEwmaName: true, equalName: true, leastName: true,
}

// hearsMeanwhile are the policies that can hear of one SubConn while they make the next. Each is
// gRPC's endpointsharding, which works all of its endpoints out anew whenever it hears of one, save
// while it takes an update. So a new leaf over thousands of connections that are ready hears of them
// within its first update, and works all out once.
var hearsMeanwhile = map[string]bool{
	serviceconfig.RoundRobinName: true, serviceconfig.LeastRequestName: true, serviceconfig.WeightedName: true,
	serviceconfig.PeakEwmaName: true, equalName: true, leastName: true,
}

// hear tells the policy below what has happened to its SubConns within its first update. It is called
// from there, before another SubConn is made, when the policy holds the lock of no SubConn before it.
func (c *child) hear() {
	for events := c.policy.pool.takeReplay(c); len(events) > 0; events = c.policy.pool.takeReplay(c) {
		for _, event := range events {
			event()
		}
	}
}

// update hands the leaf's endpoints down.
func (c *child) update() {
	state := withStations(c.policy.state, c.policy.stations)
	state.Endpoints, state.Addresses = c.leaf.endpoints, nil
	if c.policy.in.summary == nil {
		state.Endpoints = fitting(state.Endpoints)
	}
	if !readsEndpoints[c.leaf.policy.name()] {
		state.Addresses = attr.Addresses(state.Endpoints)
	}
	first := c.members.none()
	gone := c.members.replace(c.leaf.endpoints)
	c.setLone(c.members.lone())
	if first && c.hearsMeanwhile {
		c.policy.pool.setReplaying(c, true)
		defer c.policy.pool.setReplaying(c, false)
	}
	c.call(func() {
		err := c.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: state, BalancerConfig: c.leaf.policy.config})
		if err != nil {
			c.policy.errs = append(c.policy.errs, err)
		}
	})
	for _, addr := range gone {
		c.policy.pool.leave(c, addr) // not every policy does
	}
}

// fitting returns the endpoints with weights that ring_hash can add up.
func fitting(endpoints []resolver.Endpoint) []resolver.Endpoint {
	shift := attr.RingShift(endpoints)
	if shift == 0 {
		return endpoints
	}
	scaled := make([]resolver.Endpoint, len(endpoints))
	for i, ep := range endpoints {
		scaled[i] = attr.Scaled(ep, shift)
	}
	return scaled
}

// close ends the policy below. Calls under way finish.
func (c *child) close() {
	c.call(func() { c.balancer.Close() }) // there is none where building it panicked
	c.ended = true
	c.members.replace(nil)
	c.policy.pool.release(c)
}

// UpdateState implements [balancer.ClientConn].
func (c *child) UpdateState(s balancer.State) {
	if s.Picker == nil {
		s.Picker = connecting().Picker
	}
	c.mu.Lock()
	c.told = s
	first := !c.queued
	c.queued = true
	c.mu.Unlock()
	c.setServing(s.ConnectivityState == connectivity.Ready)
	if first {
		c.policy.queue.putFirst(c.takeState)
	}
}

// takeState is the event that UpdateState queues.
func (c *child) takeState() {
	c.mu.Lock()
	s := c.told
	c.queued = false
	c.mu.Unlock()
	c.policy.apply(c.policy.core.leafState(c.leaf, s))
}

// NewSubConn implements [balancer.ClientConn]. It refuses addresses that the policy was not given last:
// gRPC's lazy policies may be woken after they were closed, and nobody would close them again.
func (c *child) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	c.hear()
	for _, a := range addrs {
		if !c.members.has(a.Addr) {
			return nil, errClosed
		}
	}
	w, err := c.policy.pool.newSubConn(c, addrs, opts)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// RemoveSubConn implements [balancer.ClientConn].
func (c *child) RemoveSubConn(sc balancer.SubConn) { sc.Shutdown() }

// UpdateAddresses implements [balancer.ClientConn].
func (c *child) UpdateAddresses(sc balancer.SubConn, addrs []resolver.Address) {
	sc.UpdateAddresses(addrs) //nolint:staticcheck // deprecated, but called by somebody
}

// recovered calls f, which runs code of others, and returns its error or, if it panics, the panic as an
// error.
func recovered(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %s", printable.Short(fmt.Sprint(value), 200))
		}
	}()
	return f()
}
