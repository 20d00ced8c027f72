package balancer

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// tidy are the policies that shut their SubConns down when they are closed, which gRPC does not ask
// of them.
var tidy = map[string]bool{
	"round_robin": true, "pick_first": true, "least_request_experimental": true, "ring_hash_experimental": true,
}

// child is the policy below, and the ClientConn that it sees.
type child struct {
	balancer.ClientConn // gRPC's
	policy              *policy
	name                string
	balancer            balancer.Balancer
	state               balancer.State // guarded by policy.mu

	mu       sync.Mutex
	subConns map[balancer.SubConn]struct{} // of policies that are not tidy
}

// childFor returns the child to hand endpoints to: the latest one, or a new one when its policy
// changed. The old one serves until the new one can.
func (p *policy) childFor(builder balancer.Builder) *child {
	p.mu.Lock()
	if c := p.latest(); c != nil && c.name == builder.Name() {
		p.mu.Unlock()
		return c
	}
	c := &child{
		ClientConn: p.cc, policy: p, name: builder.Name(),
		state: balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)},
	}
	dropped := p.pending
	p.pending = nil
	if p.current == nil {
		p.current = c
	} else {
		p.pending = c
	}
	p.mu.Unlock()
	if dropped != nil {
		dropped.close()
	}
	c.balancer = builder.Build(c, p.opts)
	return c
}

// latest is the child that endpoints go to. It must be called with mu held.
func (p *policy) latest() *child {
	if p.pending != nil {
		return p.pending
	}
	return p.current
}

// UpdateState takes the child's picker. A pending child takes over once it knows how it fares, or
// once there is nothing to lose.
func (c *child) UpdateState(state balancer.State) {
	p := c.policy
	p.mu.Lock()
	c.state = state
	var replaced *child
	if p.pending != nil && (c == p.pending && state.ConnectivityState != connectivity.Connecting ||
		c == p.current && state.ConnectivityState != connectivity.Ready) {
		replaced = p.current
		p.current, p.pending = p.pending, nil
	}
	inForce := c == p.current || replaced != nil
	p.mu.Unlock()
	if inForce {
		p.report()
	}
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
