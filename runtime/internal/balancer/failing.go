package balancer

import (
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// While some endpoints of a leaf serve, its policy picks among these, and need not know what becomes of a connection
// that has failed until it is ready. gRPC's endpointsharding would go through all of its endpoints at each failure,
// which costs calls more than anything else when hundreds of instances come and go. So the failure is withheld, and
// the pool connects again, as the policy would. When nothing serves any more, the policy hears of all that fail.

// withhold reports whether the owner of w need not hear of a state. It must be called with mu held.
func (p *pool) withhold(w *subConn, s balancer.SubConnState) bool {
	if !w.failed || w.shut || w.owner == nil || !w.owner.withholds() {
		return false
	}
	w.withheld = true
	if s.ConnectivityState == connectivity.Idle {
		p.deliver(w.Connect)
	}
	return true
}

// withholds reports whether the policy of a leaf need not hear of failures. With several addresses an endpoint goes on
// to the next at each failure.
func (c *child) withholds() bool {
	return c.hearsMeanwhile && c.serving.Load() && c.lone.Load()
}

// setServing notes whether some endpoints of the leaf serve.
func (c *child) setServing(serving bool) {
	if c.serving.Swap(serving) && !serving {
		c.policy.pool.tellFailed(c)
	}
}

// setLone notes whether each endpoint of the leaf has one address.
func (c *child) setLone(lone bool) {
	if c.lone.Swap(lone) && !lone {
		c.policy.pool.tellFailed(c)
	}
}

// tellFailed tells owner of the failures that were withheld, and what their connections do since.
func (p *pool) tellFailed(owner *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, wrappers := range owner.subConns {
		for _, w := range wrappers {
			if w.withheld {
				w.withheld = false
				p.tellState(w)
			}
		}
	}
}

// tellState tells a wrapper that it has failed, and what its SubConn does since. It must be called with mu held.
func (p *pool) tellState(w *subConn) {
	e := w.at.Load()
	if e.state.ConnectivityState != connectivity.TransientFailure && e.failed != nil {
		p.tell(w, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: e.failed})
	}
	p.tell(w, e.state)
}
