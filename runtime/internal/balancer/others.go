package balancer

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// othersConfig is the config of a policy that is not ours and is linked. nil: the policy is ours.
type othersConfig struct {
	builder balancer.Builder
	parsed  grpcserviceconfig.LoadBalancingConfig
}

// Name returns the name of the policy, "" if it is ours.
func (c *othersConfig) Name() string {
	if c == nil {
		return ""
	}
	return c.builder.Name()
}

// parseOthers has a policy, which must be linked, parse its config.
func parseOthers(policy serviceconfig.Policy) (*othersConfig, error) {
	text, err := policy.ConfigJSON()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policy.Name, err)
	}
	c := &othersConfig{builder: balancer.Get(policy.Name)}
	if parser, ok := c.builder.(balancer.ConfigParser); ok {
		c.parsed, err = parser.ParseConfig(text)
	}
	return c, err
}

// others runs a policy that is not ours, with connections of its own.
type others struct {
	balancer.ClientConn
	away    bool   // its endpoints are of the cluster to fall back on; guarded by policy.mu
	changed func() // called when state has changed; it takes no lock that a call into the policy holds

	calls    sync.Mutex // held during a call into the policy
	balancer balancer.Balancer

	mu       sync.Mutex // guards what follows
	state    balancer.State
	subConns map[balancer.SubConn]struct{}
	ended    bool // it is closed, and is not called again
}

// newOthers builds the policy of a config.
func newOthers(cc balancer.ClientConn, opts balancer.BuildOptions, c *othersConfig, changed func()) *others {
	o := &others{ClientConn: cc, changed: changed, subConns: make(map[balancer.SubConn]struct{})}
	o.state = balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
	o.call(func() { o.balancer = c.builder.Build(o, opts) })
	return o
}

// call calls the policy, unless it has ended.
func (o *others) call(f func()) {
	o.calls.Lock()
	defer o.calls.Unlock()
	if !o.hasEnded() {
		f()
	}
}

func (o *others) hasEnded() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// close closes the policy, and the connections that it has left open.
func (o *others) close() {
	o.call(func() { o.balancer.Close() })
	o.mu.Lock()
	open := o.subConns
	o.ended, o.subConns = true, nil
	o.mu.Unlock()
	for subConn := range open {
		subConn.Shutdown()
	}
}

var errClosed = errors.New("etcd: the policy is closed")

// runOthers has a policy of others pick for p.
func (p *policy) runOthers(c *othersConfig) {
	p.others = newOthers(p.cc, p.opts, c, func() { p.queue.put(p.core.publish) })
}

// publishOthers returns the state of the policy of others, and its picker. It was given no endpoints while there are none, so that its
// connections to those that have left serve on. When they end, callers learn why.
func (p *policy) publishOthers() (connectivity.State, balancer.Picker) {
	s := p.others.published()
	switch empty := p.core.plan.Empty; {
	case s.ConnectivityState == connectivity.Ready || empty == nil:
		return s.ConnectivityState, s.Picker
	case p.in.pending:
		return connectivity.Connecting, base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	default:
		return connectivity.TransientFailure, base.NewErrPicker(empty)
	}
}

// forOthers returns the endpoints for a policy of others: the live ones, or else the other cluster's. Without any, it returns why.
func (p *plan) forOthers() ([]resolver.Endpoint, error) {
	switch away := p.Fallback(); {
	case p.Live > 0:
		return p.Choose(), nil
	case len(away) > 0:
		return away, nil
	}
	return nil, p.Empty
}

// update gives the policy endpoints and a config.
func (o *others) update(endpoints []resolver.Endpoint, s resolver.State, c *othersConfig) {
	s.Endpoints = endpoints
	s.Addresses = attr.Addresses(endpoints) // policies that are older than endpoints know no others
	// An error would have gRPC ask the resolver again, which has nothing else to say.
	o.call(func() {
		_ = o.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: c.parsed})
	})
}

// UpdateState implements [balancer.ClientConn].
func (o *others) UpdateState(s balancer.State) {
	if s.Picker == nil { // as gRPC takes it
		s.Picker = base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	o.mu.Lock()
	if !o.ended {
		o.state = s
	}
	o.mu.Unlock()
	o.changed()
}

// published returns the last state.
func (o *others) published() balancer.State {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// NewSubConn implements [balancer.ClientConn].
func (o *others) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	var subConn balancer.SubConn
	listener := opts.StateListener
	if listener == nil {
		listener = func(s balancer.SubConnState) { o.balancer.UpdateSubConnState(subConn, s) } //nolint:staticcheck // deprecated, but counted on by somebody
	}
	opts.StateListener = func(s balancer.SubConnState) {
		if s.ConnectivityState == connectivity.Shutdown {
			o.forget(subConn)
		}
		o.call(func() { listener(s) })
	}
	subConn, err := o.ClientConn.NewSubConn(addrs, opts)
	if err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended { // gRPC's lazy policies may be woken after they were closed
		subConn.Shutdown()
		return nil, errClosed
	}
	o.subConns[subConn] = struct{}{}
	return subConn, nil
}

func (o *others) forget(subConn balancer.SubConn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.subConns, subConn)
}
