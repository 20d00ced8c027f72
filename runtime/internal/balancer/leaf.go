package balancer

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// leaf is a set of endpoints with the policy that picks from it. Its fields are guarded by the
// policy's mu.
type leaf struct {
	policy  *policy
	current *child // whose picker is in use
	pending *child // of another policy, takes current's place once it can; nil: none
}

// tidy are the policies that shut their SubConns down when they are closed, which gRPC does not ask
// of them.
var tidy = map[string]bool{
	"round_robin": true, "pick_first": true, "least_request_experimental": true, "ring_hash_experimental": true,
	WeightedName: true,
}

// child is a policy below, and the ClientConn that it sees.
type child struct {
	balancer.ClientConn // gRPC's
	leaf                *leaf
	name                string
	balancer            balancer.Balancer
	state               balancer.State // guarded by policy.mu

	mu       sync.Mutex
	subConns map[balancer.SubConn]struct{} // of policies that are not tidy
}

func connecting() balancer.State {
	return balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
}

// childFor returns the child to hand endpoints to: the latest one, or a new one when the policy
// changed. The old one serves until the new one can.
func (l *leaf) childFor(builder balancer.Builder) *child {
	p := l.policy
	p.mu.Lock()
	if c := l.latest(); c != nil && c.name == builder.Name() {
		p.mu.Unlock()
		return c
	}
	c := &child{ClientConn: p.cc, leaf: l, name: builder.Name(), state: connecting()}
	dropped := l.pending
	l.pending = nil
	if l.current == nil {
		l.current = c
	} else {
		l.pending = c
	}
	p.mu.Unlock()
	if dropped != nil {
		dropped.close()
	}
	c.balancer = builder.Build(c, p.opts)
	return c
}

// latest is the child that endpoints go to. It must be called with the policy's mu held.
func (l *leaf) latest() *child {
	if l.pending != nil {
		return l.pending
	}
	return l.current
}

// update hands endpoints down.
func (l *leaf) update(cfg childConfig, state resolver.State, endpoints []resolver.Endpoint) error {
	state.Endpoints = endpoints
	if !tidy[cfg.builder.Name()] {
		state.Addresses = attr.Addresses(endpoints)
	}
	return l.childFor(cfg.builder).balancer.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: state, BalancerConfig: cfg.config,
	})
}

// close ends the leaf. Calls under way finish.
func (l *leaf) close() {
	l.policy.mu.Lock()
	current, pending := l.current, l.pending
	l.current, l.pending = nil, nil
	l.policy.mu.Unlock()
	for _, c := range []*child{current, pending} {
		if c != nil {
			c.close()
		}
	}
}

// UpdateState takes the child's picker. A pending child takes over once it knows how it fares, or
// once there is nothing to lose.
func (c *child) UpdateState(state balancer.State) {
	l, p := c.leaf, c.leaf.policy
	p.mu.Lock()
	c.state = state
	var replaced *child
	if l.pending != nil && (c == l.pending && state.ConnectivityState != connectivity.Connecting ||
		c == l.current && state.ConnectivityState != connectivity.Ready) {
		replaced = l.current
		l.current, l.pending = l.pending, nil
	}
	if c == l.current || replaced != nil {
		p.report()
	}
	p.mu.Unlock()
	if replaced != nil {
		// In a goroutine of its own, for it may be the one that is calling. It ends with the call.
		go replaced.close()
	}
}

// NewSubConn notes the SubConns of a child that will not shut them down itself.
func (c *child) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	sc, err := c.ClientConn.NewSubConn(addrs, opts)
	if err != nil || tidy[c.name] {
		return sc, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.subConns == nil {
		c.subConns = make(map[balancer.SubConn]struct{})
	}
	c.subConns[sc] = struct{}{}
	return sc, nil
}

func (c *child) close() {
	c.balancer.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	for sc := range c.subConns {
		sc.Shutdown()
	}
	c.subConns = nil
}
