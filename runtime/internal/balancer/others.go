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

// othersConfig is the config of a linked policy of another package. It is nil for a policy of ours.
type othersConfig struct {
	builder balancer.Builder
	parsed  grpcserviceconfig.LoadBalancingConfig
}

// Name returns the name of the policy, or "" for a policy of ours.
func (c *othersConfig) Name() string {
	if c == nil {
		return ""
	}
	return c.builder.Name()
}

// parseOthers parses the config of another package's policy, which must be linked.
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

// others runs a policy of another package, which makes connections of its own.
type others struct {
	balancer.ClientConn
	away    bool   // the policy has the fallback's endpoints; guarded by policy.mu
	changed func() // called after each change of state; must not take a lock that is held during calls into the policy

	calls    sync.Mutex // held during a call into the policy
	balancer balancer.Balancer

	mu       sync.Mutex // guards the fields below
	state    balancer.State
	subConns map[balancer.SubConn]struct{}
	ended    bool // the policy is closed, and must not be called again
}

// newOthers builds the policy of a config.
func newOthers(cc balancer.ClientConn, opts balancer.BuildOptions, c *othersConfig, changed func()) *others {
	o := &others{ClientConn: cc, changed: changed, subConns: make(map[balancer.SubConn]struct{})}
	o.state = balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
	o.call(func() { o.balancer = c.builder.Build(o, opts) })
	return o
}

// call runs f, which calls the policy, unless the policy has ended.
func (o *others) call(f func()) {
	o.calls.Lock()
	defer o.calls.Unlock()
	o.mu.Lock()
	ended := o.ended
	o.mu.Unlock()
	if !ended {
		f()
	}
}

// close closes the policy and its open connections.
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

// publishOthers returns the state and the picker of another package's policy. That policy gets no update without endpoints,
// so its connections to endpoints that have left keep serving. After these end, callers get the reason.
func (p *policy) publishOthers() (connectivity.State, balancer.Picker) {
	p.others.mu.Lock()
	s := p.others.state
	p.others.mu.Unlock()
	switch empty := p.core.plan.Empty; {
	case s.ConnectivityState == connectivity.Ready || empty == nil:
		return s.ConnectivityState, s.Picker
	case p.in.pending:
		return connectivity.Connecting, base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	default:
		return connectivity.TransientFailure, base.NewErrPicker(empty)
	}
}

// forOthers returns the endpoints for another package's policy: live endpoints or, if there are none, the fallback's. The
// error says why none exists.
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
	s.Addresses = attr.Addresses(endpoints) // for policies that do not read Endpoints
	// The error is dropped: gRPC would only call the resolver again, which has nothing new.
	o.call(func() {
		_ = o.balancer.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: c.parsed})
	})
}

// UpdateState implements [balancer.ClientConn].
func (o *others) UpdateState(s balancer.State) {
	if s.Picker == nil { // gRPC replaces a nil picker, too
		s.Picker = base.NewErrPicker(balancer.ErrNoSubConnAvailable)
	}
	o.mu.Lock()
	if !o.ended {
		o.state = s
	}
	o.mu.Unlock()
	o.changed()
}

// NewSubConn implements [balancer.ClientConn].
func (o *others) NewSubConn(addrs []resolver.Address, opts balancer.NewSubConnOptions) (balancer.SubConn, error) {
	var subConn balancer.SubConn
	listener := opts.StateListener
	if listener == nil {
		listener = func(s balancer.SubConnState) { o.balancer.UpdateSubConnState(subConn, s) } //nolint:staticcheck // deprecated, but some policies rely on it
	}
	opts.StateListener = func(s balancer.SubConnState) {
		if s.ConnectivityState == connectivity.Shutdown {
			o.mu.Lock()
			delete(o.subConns, subConn)
			o.mu.Unlock()
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
