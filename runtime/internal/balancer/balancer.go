// Package balancer is the load balancing policy "etcd". It stands above a policy of gRPC's choice
// and adds what needs to know instances: shares for groups of them, zones, draining, methods that
// not all of them serve, calls that name theirs, and errors that name the service.
//
//	config.go      the policy's JSON
//	plan.go        which endpoints a call may go to; methods.go, by its method
//	balancer.go    the policy: it hands endpoints down and pickers up
//	leaf.go        a set of endpoints with the policy below, and changing that without a gap
//	succession.go  changing the plan without a gap
//	picker.go      picking for one call
//	target.go      calls that name the instance they go to
//	affinity.go    calls that are tied to a key
//	weighted.go    the policy "etcd_weighted": by the endpoints' static weights
//
// Importing the package registers the policies with gRPC, which knows no other way.
package balancer

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Name is the policy's name in a service config.
const Name = "etcd"

func init() {
	balancer.Register(builder{})
	balancer.Register(weightedBuilder{})
}

type builder struct{}

func (builder) Name() string { return Name }

func (builder) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	return parseConfig(text)
}

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	p := &policy{cc: cc, opts: opts, leaves: make(map[string]*leaf)}
	p.sequence.shuffle()
	return p
}

// policy is the balancer of one connection. gRPC calls its methods one at a time; children, pickers
// and SubConns call back whenever they like.
type policy struct {
	cc   balancer.ClientConn
	opts balancer.BuildOptions

	sequence sequence // of the choices among groups

	// mu guards what follows. It is never held while a child is called, for children call back.
	mu        sync.Mutex
	updating  bool                // endpoints are being handed down: pickers wait until that is done
	endpoints []resolver.Endpoint // the last set, whole
	nothing   error               // why the set is empty
	plan      plan
	previous  *plan            // serves until plan can; nil: plan does
	settling  *time.Timer      // bounds how long previous does
	leaves    map[string]*leaf // by key, of both
	targets   map[string]*target
	only      bool // calls must name their instance
	reported  []string
	closed    bool
}

// UpdateClientConnState takes the endpoints and the config.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	cfg, ok := s.BalancerConfig.(*config)
	if !ok {
		return errors.New("etcd: the policy was given no config of its own")
	}
	client := attr.ClientOf(s.ResolverState)
	next := plan{}
	if !client.TargetsOnly {
		next = makePlan(cfg, client.Zone, s.ResolverState.Endpoints)
	}
	p.mu.Lock()
	p.updating, p.only = true, client.TargetsOnly
	p.endpoints, p.nothing = s.ResolverState.Endpoints, attr.Trouble(s.ResolverState)
	p.succeed(next)
	p.mu.Unlock()

	p.dropTargets()
	err := p.handDown(cfg.child, s.ResolverState, next)
	p.mu.Lock()
	p.updating = false
	p.report()
	p.mu.Unlock()
	p.tell(client, next.reports)
	if len(s.ResolverState.Endpoints) == 0 {
		return nil // the watch will tell of the next endpoint: nothing is won by asking again
	}
	return err
}

// handDown gives each leaf of a plan its endpoints, and closes those that are used no more.
func (p *policy) handDown(cfg childConfig, state resolver.State, next plan) error {
	var errs []error
	for t := range next.leaves() {
		errs = append(errs, p.leaf(t.key).update(cfg, state, t.endpoints))
	}
	p.mu.Lock()
	unused := p.unused()
	p.mu.Unlock()
	for _, l := range unused {
		l.close()
	}
	return errors.Join(errs...)
}

// unused takes the leaves out that are in no plan. It must be called with mu held.
func (p *policy) unused() []*leaf {
	used := make(map[string]bool)
	for t := range p.plan.leaves() {
		used[t.key] = true
	}
	if p.previous != nil {
		for t := range p.previous.leaves() {
			used[t.key] = true
		}
	}
	var unused []*leaf
	for key, l := range p.leaves {
		if !used[key] {
			unused = append(unused, l)
			delete(p.leaves, key)
		}
	}
	return unused
}

func (p *policy) leaf(key string) *leaf {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leaves[key]
	if l == nil {
		l = &leaf{policy: p}
		p.leaves[key] = l
	}
	return l
}

// tell reports what is odd about a plan, once.
func (p *policy) tell(client attr.Client, reports []string) {
	for _, report := range reports {
		if client.Report != nil && !slices.Contains(p.reported, report) {
			client.Report(report)
		}
	}
	p.reported = reports
}

// ResolverError takes what is wrong with etcd, which matters only while there are no endpoints.
func (p *policy) ResolverError(err error) {
	p.mu.Lock()
	children := p.children()
	if len(p.endpoints) == 0 {
		p.nothing = err
		p.report()
	}
	p.mu.Unlock()
	for _, c := range children {
		c.balancer.ResolverError(err)
	}
}

// children are those that endpoints go to. It must be called with mu held.
func (p *policy) children() []*child {
	var all []*child
	for _, l := range p.leaves {
		if c := l.latest(); c != nil {
			all = append(all, c)
		}
	}
	return all
}

// UpdateSubConnState is deprecated by gRPC: SubConns have listeners.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle has the children connect again.
func (p *policy) ExitIdle() {
	p.mu.Lock()
	children := p.children()
	p.mu.Unlock()
	for _, c := range children {
		c.balancer.ExitIdle()
	}
}

// Close ends the policy and what it made.
func (p *policy) Close() {
	p.mu.Lock()
	p.closed = true
	leaves := slices.Collect(maps.Values(p.leaves))
	clear(p.leaves)
	p.endpoints, p.plan, p.previous = nil, plan{}, nil
	if p.settling != nil {
		p.settling.Stop()
	}
	p.mu.Unlock()
	p.dropTargets()
	for _, l := range leaves {
		l.close()
	}
}

// report gives gRPC the picker that is in force now. It must be called with mu held, for gRPC must
// see the pickers in the order in which they came about; it does not call back from here.
func (p *policy) report() {
	if p.closed || p.updating {
		return
	}
	switch {
	case len(p.endpoints) == 0 && p.nothing != nil:
		p.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure,
			Picker: &picker{policy: p, views: []viewPicker{{otherwise: base.NewErrPicker(p.nothing)}}}})
	case p.only:
		p.cc.UpdateState(balancer.State{ConnectivityState: connectivity.Ready,
			Picker: &picker{policy: p, views: []viewPicker{{otherwise: targetsOnly{}}}}})
	default:
		if p.previous != nil && p.settled() {
			p.retire()
		}
		serving := p.plan
		if p.previous != nil {
			serving = *p.previous
		}
		p.cc.UpdateState(p.assemble(serving))
	}
}
