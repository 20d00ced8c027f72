// Package balancer is the load balancing policy "etcd". It stands above another policy, such as
// round_robin, and adds what takes knowledge of instances: groups with shares of the calls, zones,
// subsets, draining, methods that only some instances serve, lanes, calls that name their instance, and errors
// that name the service.
//
//	config.go    the policy's JSON
//	claim.go     whether a connection's default config is the one that NewClient gave
//	plan.go      the plan: which endpoints a call may go to, in one order of passes
//	lanes.go     ... the pass by lanes
//	methods.go   ... the pass by methods, of the base and within each lane
//	split.go     ... the pass by groups
//	zones.go     ... the pass by zone, and the share of a zone's calls that stays
//	select.go    ... the passes by selector and subset
//	core.go      the core: the plan in force, the plan to follow it, and their leaves
//	balancer.go  the policy, which is the core's shell
//	child.go     the policy below of one leaf, and the ClientConn that it sees
//	members.go   ... and the addresses of its endpoints
//	pool.go      one SubConn for each address, shared by all leaves and targets
//	tally.go     ... and how many of a leaf's are ready
//	dialing.go   ... which connects when it has a place in the service's budget
//	failing.go   ... and which keeps failing while others serve
//	queue.go     events that wait for the policy's lock
//	verdict.go   configs that made a policy below panic
//	picker.go    picking for one call
//	wishes.go    what a call asks for by its context
//	target.go    ... calls that name their instance
//	affinity.go  ... calls that are tied to a key
//	lane.go      ... calls that have a lane
//	leader.go    calls that are for the leader
//	stations.go  what a connection knows of each address, whichever leaf calls it
//	records.go   ... and of each call under way there
//	ready.go     what our own policies below have in common: the endpoints that are ready, and their shares
//	weighted.go  the policy "etcd_weighted": by the endpoints' static weights
//	peakewma.go  the policy "etcd_peak_ewma": by how long calls take and how many are under way
//	peak.go      ... the estimate
//	slowstart.go the share of an instance that has just started
//	bound.go     the bound of calls under way
//	leastrequest.go  ... and least_request within it
//	standin.go   policies that stand in for gRPC's where those cannot do what the config asks for
//
// Importing the package registers the policies with gRPC, which knows no other way.
package balancer

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Name is the policy's name in a service config.
const Name = serviceconfig.EtcdName

func init() {
	balancer.Register(builder{})
	balancer.Register(weightedBuilder{})
	balancer.Register(peakEwmaBuilder{})
	balancer.Register(equalBuilder{})
	balancer.Register(leastBuilder{})
}

type builder struct{}

func (builder) Name() string { return Name }

func (builder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	return parseConfig(text)
}

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	p := &policy{cc: cc, opts: opts, children: make(map[*leaf]*child)}
	p.sequence.shuffle()
	p.targets.policy = p
	p.queue.start = func() { p.do(func() {}) }
	p.pool = newPool(cc, p.queue.put)
	p.stations = newStations(opts.Target.Endpoint())
	return p
}

// policy is the balancer of one connection, and the core's shell. gRPC calls its methods one at a time.
// Policies below, pickers and SubConns call back at any time, from anywhere and with locks of their own
// held: such events go into the queue, and whoever holds calls handles them.
type policy struct {
	cc       balancer.ClientConn
	opts     balancer.BuildOptions
	sequence sequence // of the choices among groups
	pool     *pool
	targets  targets
	queue    queue
	stations *stations

	// calls is held around every call of a policy below, and guards what follows. No callback and no
	// pick takes it.
	calls    sync.Mutex
	core     core
	children map[*leaf]*child
	state    resolver.State // the last from the resolver
	health   string         // the last healthCheckConfig from the resolver
	leader   *leader        // as the resolver says; nil: no call is for one
	in       *input         // state, as plans take it; nil: there was none yet
	settling *time.Timer    // for core.expire
	sweeping *time.Timer    // for pool.sweep
	sweepAt  time.Time      // when sweeping is due
	broken   []brokenLeaf   // leaves whose policy panicked, until mend
	verdicts verdicts       // on the configs of policies below
	errs     []error        // of the policies below, in this update
	members  members        // of in
	dirty    bool           // a picker is to be published
	inForce  bool           // gRPC goes by what is published
	reported []string       // problems of the last plan, told to Client.Report
	after    []func()       // to be called when calls is free
	closed   bool
}

// brokenLeaf is a leaf whose policy panicked.
type brokenLeaf struct {
	leaf *leaf
	why  error
}

// do runs f with calls held, and then the events in the queue.
func (p *policy) do(f func()) {
	p.calls.Lock()
	p.queue.claim()
	if !p.closed {
		f()
	}
	p.queue.drain()
	for len(p.broken) > 0 {
		p.mend()
		p.queue.drain()
	}
	p.publish()
	p.sweep()
	after := p.after
	p.after = nil
	p.calls.Unlock()
	for _, f := range after {
		f()
	}
}

// UpdateClientConnState takes the endpoints and the config.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, err := configOf(s.BalancerConfig)
	if err != nil {
		return err
	}
	p.do(func() {
		sequence := p.take(s.ResolverState, c)
		p.targets.update(&known{p.in.service, p.in.endpoints, p.in.client, sequence, p.in.pending})
		p.plan()
	})
	return p.outcome(c)
}

// configOf returns the policy's config, the default one if gRPC gave none.
func configOf(given grpcserviceconfig.LoadBalancingConfig) (*config, error) {
	c, ok := given.(*config)
	switch {
	case given != nil && !ok:
		return nil, fmt.Errorf("etcd: the policy was given the config of another: %T", given)
	case c == nil:
		return defaultConfig()
	}
	return c, nil
}

// bareClient is what connections are told of that were made without options of ours. They share a subset.
var bareClient = &attr.Client{Seed: maphash.MakeSeed()}

// take stores the resolver's state and the config, and returns the state's sequence.
func (p *policy) take(s resolver.State, c *config) (sequence uint64) {
	told := attr.StateOf(s)
	if told == nil {
		told = &attr.State{Endpoints: s.Endpoints}
	}
	client := told.Client
	if client == nil {
		client = bareClient
	}
	if p.in != nil && told.Health != p.health {
		p.pool.recheck()
	}
	p.health = told.Health
	p.pool.bound(client.Connections)
	p.state = s
	p.in = &input{
		service: p.opts.Target.Endpoint(), config: c, client: client,
		endpoints: told.Endpoints, summary: told.Summary, held: told.Held, pending: told.Pending, err: told.Err,
	}
	p.members.replace(p.in.endpoints)
	p.stations.prune(p.resolved, len(told.Endpoints))
	p.leader = leaderOf(client, told.Leader)
	p.dirty = p.dirty || p.leader != nil
	if client.Taken != nil {
		client.Taken()
	}
	p.pool.resolved()
	return told.Sequence
}

// plan makes a plan of p.in, and hands it to the core. If a policy below panicked with the config, the
// plan uses the last one that works.
func (p *policy) plan() {
	in := *p.in
	good, err := p.verdicts.choose(in.config, p.core.config())
	if err != nil && good == nil {
		in.endpoints, in.pending, in.err, good = nil, false, err, in.config
	}
	in.config = good
	p.stations.set(good.terms())
	next := makePlan(&in, p.core.plan())
	p.errs = nil
	p.apply(p.core.update(next, time.Now()))
	p.report(next.reports)
}

// outcome returns the error of an update. gRPC then asks the resolver again, which would not help while
// there are no endpoints: the watch reports the first one by itself.
func (p *policy) outcome(c *config) error {
	p.calls.Lock()
	defer p.calls.Unlock()
	err := p.verdicts.of(&c.child)
	if p.in != nil && len(p.in.endpoints) > 0 {
		err = errors.Join(append(p.errs, err)...)
	}
	return err
}

// apply carries out the core's effects.
func (p *policy) apply(e effects) {
	for _, le := range e.leaves {
		switch le.do {
		case buildLeaf:
			p.children[le.leaf] = p.newChild(le.leaf)
			p.children[le.leaf].update()
		case updateLeaf:
			p.children[le.leaf].update()
		case closeLeaf:
			p.children[le.leaf].close()
			delete(p.children, le.leaf)
		}
	}
	p.dirty = p.dirty || e.publish
	if !e.wake.IsZero() {
		p.wake(&p.settling, e.wake, func() { p.apply(p.core.expire(time.Now())) })
	}
}

// wake has f run at a time, instead of what the timer was for.
func (p *policy) wake(timer **time.Timer, at time.Time, f func()) {
	if *timer != nil {
		(*timer).Stop()
	}
	*timer = time.AfterFunc(time.Until(at), func() { p.do(f) })
}

// mend makes a new plan after policies below have panicked.
func (p *policy) mend() {
	for len(p.broken) > 0 {
		b := p.broken[0]
		p.broken = p.broken[1:]
		name := b.leaf.policy.name()
		if err := p.verdicts.condemn(b.leaf.policy, b.why); err != nil {
			p.tell(fmt.Sprintf("the policy %q is not used: %v", name, b.why))
		}
		delete(p.children, b.leaf)
		p.apply(p.core.fail(b.leaf))
	}
	if p.in != nil && !p.closed {
		p.plan()
	}
}

// publish gives gRPC a new picker, if one is due.
func (p *policy) publish() {
	if !p.dirty || p.closed {
		return
	}
	p.dirty = false
	s := p.only(connecting())
	if p.core.serving != nil {
		s = p.assemble(p.core.serving)
		p.verdicts.good = p.core.config()
	}
	p.cc.UpdateState(s)
	// gRPC uses the previous policy until this one leaves Connecting.
	if !p.inForce && p.in != nil && s.ConnectivityState != connectivity.Connecting {
		p.inForce = true
		if p.in.client.InForce != nil {
			p.after = append(p.after, p.in.client.InForce)
		}
	}
}

// sweep gives up connections that nothing uses any more.
func (p *policy) sweep() {
	if p.closed {
		return
	}
	after, next := p.pool.sweep(p.resolved, time.Now())
	p.after = append(p.after, after...)
	if !next.IsZero() && !next.Equal(p.sweepAt) {
		p.sweepAt = next
		p.wake(&p.sweeping, next, func() { p.sweepAt = time.Time{} })
	}
}

// resolved reports whether the resolver has an address.
func (p *policy) resolved(addr string) bool { return p.members.has(addr) }

// report tells the problems of a plan that the plan before did not have.
func (p *policy) report(reports []string) {
	for _, report := range reports {
		if !slices.Contains(p.reported, report) {
			p.tell(report)
		}
	}
	p.reported = reports
}

func (p *policy) tell(problem string) {
	if tell := p.in.client.Report; tell != nil {
		p.after = append(p.after, func() { tell(problem) })
	}
}

// ResolverError implements [balancer.Balancer]. While there are endpoints, the error is only passed on.
func (p *policy) ResolverError(err error) {
	p.do(func() {
		if p.in != nil && len(p.in.endpoints) > 0 {
			for _, c := range p.children {
				c.call(func() { c.balancer.ResolverError(err) })
			}
			return
		}
		if p.in == nil {
			p.in = &input{service: p.opts.Target.Endpoint(), client: bareClient}
			// It is parsed when the process starts to use it, and names nothing that can be missing.
			p.in.config, _ = defaultConfig()
		}
		in := *p.in
		in.pending, in.err = false, err
		p.in = &in
		p.plan()
	})
}

// UpdateSubConnState is deprecated by gRPC: SubConns have listeners.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle has the policies below connect again.
func (p *policy) ExitIdle() {
	p.do(func() {
		for _, c := range p.children {
			c.call(func() { c.balancer.ExitIdle() })
		}
	})
}

// Close ends the policy and what it made.
func (p *policy) Close() {
	p.do(func() {
		p.apply(p.core.close())
		p.closed = true
		for _, timer := range []*time.Timer{p.settling, p.sweeping} {
			if timer != nil {
				timer.Stop()
			}
		}
		p.after = append(p.after, p.pool.close()...)
	})
}
