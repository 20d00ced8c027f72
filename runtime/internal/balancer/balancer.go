// Package balancer is the load balancing policy "etcd". It stands above a policy of gRPC's choice
// and adds what needs to know instances: calls that name theirs, and errors that name the service.
//
//	config.go    the policy's JSON
//	balancer.go  the policy: it hands endpoints down and pickers up
//	child.go     the policy below it, and changing it without a gap
//	target.go    calls that name the instance they go to
//
// Importing the package registers the policy with gRPC, which knows no other way.
package balancer

import (
	"encoding/json"
	"errors"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Name is the policy's name in a service config.
const Name = "etcd"

func init() { balancer.Register(builder{}) }

type builder struct{}

func (builder) Name() string { return Name }

func (builder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	return parseConfig(text)
}

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return &policy{cc: cc, opts: opts}
}

// policy is the balancer of one connection. gRPC calls its methods one at a time; children, pickers
// and SubConns call back whenever they like.
type policy struct {
	cc   balancer.ClientConn
	opts balancer.BuildOptions

	// mu guards what follows. It is never held while a child is called, for children call back.
	mu        sync.Mutex
	endpoints []resolver.Endpoint // the last set
	nothing   error               // why the set is empty
	current   *child              // whose picker is in use; nil: none was made yet
	pending   *child              // takes current's place once it can; nil: none
	targets   map[string]*target  // by instance id
	closed    bool
}

// UpdateClientConnState takes the endpoints and the config.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	cfg, ok := s.BalancerConfig.(*config)
	if !ok {
		return errors.New("etcd: the policy was given no config of its own")
	}
	p.mu.Lock()
	p.endpoints = s.ResolverState.Endpoints
	p.nothing = attr.Trouble(s.ResolverState)
	p.mu.Unlock()
	p.dropTargets()

	if attr.TargetsOnly(s.ResolverState) {
		p.cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready, Picker: &picker{p, targetsOnly{}}})
		return nil
	}
	child := p.childFor(cfg.child.builder)
	err := child.balancer.UpdateClientConnState(balancer.ClientConnState{
		ResolverState: s.ResolverState, BalancerConfig: cfg.child.config,
	})
	if len(s.ResolverState.Endpoints) == 0 {
		// The watch will tell of the next endpoint: nothing is won by asking again.
		p.report()
		return nil
	}
	return err
}

// ResolverError takes what is wrong with etcd, which matters only while there are no endpoints.
func (p *policy) ResolverError(err error) {
	p.mu.Lock()
	child := p.latest()
	if child == nil {
		p.nothing = err
	}
	p.mu.Unlock()
	if child != nil {
		child.balancer.ResolverError(err)
		return
	}
	p.report()
}

// UpdateSubConnState is deprecated by gRPC: SubConns have listeners.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle has the child connect again.
func (p *policy) ExitIdle() {
	p.mu.Lock()
	child := p.latest()
	p.mu.Unlock()
	if child != nil {
		child.balancer.ExitIdle()
	}
}

// Close ends the policy and what it made.
func (p *policy) Close() {
	p.mu.Lock()
	p.closed = true
	current, pending := p.current, p.pending
	p.current, p.pending, p.endpoints = nil, nil, nil
	p.mu.Unlock()
	p.dropTargets()
	for _, c := range []*child{current, pending} {
		if c != nil {
			c.close()
		}
	}
}

// report gives gRPC the picker that is in force now.
func (p *policy) report() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	state := balancer.State{ConnectivityState: connectivity.Connecting, Picker: base.NewErrPicker(balancer.ErrNoSubConnAvailable)}
	if p.current != nil {
		state = p.current.state
	}
	if len(p.endpoints) == 0 && p.nothing != nil {
		state = balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(p.nothing)}
	}
	state.Picker = &picker{p, state.Picker}
	// Under the lock, for gRPC must see the pickers in the order in which they came about. It does
	// not call back from here.
	p.cc.UpdateState(state)
	p.mu.Unlock()
}

// picker picks for one call.
type picker struct {
	policy *policy
	child  balancer.Picker
}

func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	if instance, ok := Target(info.Ctx); ok {
		return p.policy.pickTarget(instance)
	}
	return p.child.Pick(info)
}

// targetsOnly refuses calls that name no instance, on a connection that is for those that do.
type targetsOnly struct{}

func (targetsOnly) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, status.Error(codes.Unavailable,
		"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
}
