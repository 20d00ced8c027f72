package balancer

import (
	"context"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

type targetKey struct{}

// WithTarget has the calls made with ctx go to the given instance.
func WithTarget(ctx context.Context, instance string) context.Context {
	return context.WithValue(ctx, targetKey{}, instance)
}

// Target returns the instance that the calls made with ctx go to, if they name one.
func Target(ctx context.Context) (instance string, ok bool) {
	instance, ok = ctx.Value(targetKey{}).(string)
	return instance, ok
}

// target is the connection to an instance that calls named. It is opened by the first such call, is
// apart from those of the child policy, and is closed when the instance leaves.
type target struct {
	addr    string
	subConn balancer.SubConn // nil until it is made
	state   connectivity.State
	err     error // in TransientFailure: why
}

// pickTarget picks the connection to an instance; it never picks another.
func (p *policy) pickTarget(instance string) (balancer.PickResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.targets[instance]
	if t == nil {
		endpoint, ok := p.find(instance)
		if !ok {
			return balancer.PickResult{}, status.Errorf(codes.Unavailable,
				"etcd: no instance %q is registered under %q", instance, p.opts.Target.Endpoint())
		}
		t = &target{addr: endpoint.Addresses[0].Addr, state: connectivity.Connecting}
		if p.targets == nil {
			p.targets = make(map[string]*target)
		}
		p.targets[instance] = t
		// gRPC holds locks of its own while it makes a SubConn, and this is the path of a call. The
		// goroutine ends when that is done.
		go p.connect(t, endpoint)
	}
	switch t.state {
	case connectivity.Ready:
		return balancer.PickResult{SubConn: t.subConn}, nil
	case connectivity.Idle:
		t.subConn.Connect()
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	case connectivity.TransientFailure:
		return balancer.PickResult{}, fmt.Errorf("etcd: instance %q at %s: %w", instance, t.addr, t.err)
	default:
		return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
	}
}

// find returns the endpoint of an instance. It must be called with mu held.
func (p *policy) find(instance string) (resolver.Endpoint, bool) {
	for _, endpoint := range p.endpoints {
		if e := attr.Endpoint(endpoint); e != nil && e.Instance == instance {
			return endpoint, true
		}
	}
	return resolver.Endpoint{}, false
}

// connect opens the connection to a target.
func (p *policy) connect(t *target, endpoint resolver.Endpoint) {
	sc, err := p.cc.NewSubConn(endpoint.Addresses, balancer.NewSubConnOptions{
		StateListener: func(s balancer.SubConnState) { p.targetChanged(t, s) },
	})
	if err != nil {
		p.targetChanged(t, balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: err})
		return
	}
	p.mu.Lock()
	t.subConn = sc
	dropped := t.state == connectivity.Shutdown
	p.mu.Unlock()
	if dropped {
		sc.Shutdown()
		return
	}
	sc.Connect()
}

// targetChanged has the calls that wait for a target look again.
func (p *policy) targetChanged(t *target, s balancer.SubConnState) {
	p.mu.Lock()
	changed := t.state != connectivity.Shutdown && s.ConnectivityState != connectivity.Shutdown
	if changed {
		t.state, t.err = s.ConnectivityState, s.ConnectionError
		p.report()
	}
	p.mu.Unlock()
}

// dropTargets closes the connections to instances that left or moved. Calls under way finish.
func (p *policy) dropTargets() {
	p.mu.Lock()
	var dropped []balancer.SubConn
	for instance, t := range p.targets {
		if endpoint, ok := p.find(instance); ok && endpoint.Addresses[0].Addr == t.addr {
			continue
		}
		t.state = connectivity.Shutdown
		delete(p.targets, instance)
		if t.subConn != nil {
			dropped = append(dropped, t.subConn)
		}
	}
	p.mu.Unlock()
	for _, sc := range dropped {
		sc.Shutdown()
	}
}
