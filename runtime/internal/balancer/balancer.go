// Package balancer is the load balancing policy "etcd". It decides which
// endpoints a call may go to, and picks one. It has one connection for each
// address, and a plan. The plan consists of views of these connections.
//
//	config.go     the policies' names and the policy's config
//	connplan.go   the plan for the resolver's state, with the connections to its endpoints
//	conn.go       the connection to an address
//	core.go       the core, which handles events of connections
//	selection.go  the core's selection of the connections that the plan uses
//	methods.go    the methods that some endpoints lack
//	picker.go     picking a connection for a call
//	snapshot.go   the part of a view that can take calls, and the pick in it
//	target.go     picking for a call that names its instance, or follows the route
//	balancer.go   the policy, which is the core's shell, and its queue of events
//
// Package planner has the steps from entries to the tiers of a pick. Package
// calloptions has the options of a call, and package picking the policies that
// choose an endpoint. Importing package balancer registers the policies with
// gRPC, because gRPC knows policies only by their registered names.
package balancer

import (
	"cmp"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// policy is the balancer of one ClientConn, and the core's shell. gRPC calls
// its methods one at a time. SubConns and calls report events at any time, on
// any goroutine, and may hold locks of their own. So their events go into the
// queue, and the holder of mu handles them.
type policy struct {
	cc      balancer.ClientConn
	opts    balancer.BuildOptions
	targets targets
	queue   *queue
	now     func() time.Time // the clock

	// mu guards the fields below. No pick and no callback of gRPC takes it.
	mu sync.Mutex

	core core

	// the statistics of calls; those of model.Client if the client has any
	memory *picking.Memory

	in       *input      // the input of the last plan; without endpoints at first
	waking   *time.Timer // for the core's next selection
	reported []string    // problems of the last plan, passed to Client.Report

	// calls go to the fallback, and Client.OnFailover was called with true
	failsOver bool

	after  []func() // to call after mu is unlocked
	closed bool
}

// do runs f with mu held, and then the events in the queue.
func (p *policy) do(f func()) {
	p.mu.Lock()
	if !p.closed {
		f()
	}

	p.carryOut()
	after := p.after
	p.after = nil
	p.mu.Unlock()

	for _, f := range after {
		f()
	}
}

// carryOut applies the core's effects and passes queued events to the core,
// until no effect and no event is left. Effects come first, so that events of
// connections that the core has closed are dropped. Then carryOut gives gRPC a
// new picker, if one is due.
func (p *policy) carryOut() {
	publish := p.act()
	for {
		p.core.reselect(p.now())
		publish = p.act() || publish

		events := p.queue.takeAll()
		if len(events) == 0 && !p.core.stale {
			break
		}

		for _, event := range events {
			if !p.closed {
				event()
				publish = p.act() || publish
			}
		}
	}

	p.wake(p.core.lookAt)
	p.notifyFailover(!p.closed && p.core.failsOver)

	if publish && !p.closed {
		p.publish()
	}
}

// notifyFailover calls the client's OnFailover when calls begin or cease to go
// to the fallback.
func (p *policy) notifyFailover(failsOver bool) {
	if p.failsOver == failsOver {
		return
	}

	p.failsOver = failsOver
	if notify := p.in.state.Client.OnFailover; notify != nil {
		p.after = append(p.after, func() { notify(failsOver) })
	}
}

// act applies the core's effects, and the effects that these cause in turn. It
// reports whether a new picker is due.
func (p *policy) act() (publish bool) {
	for {
		out := p.core.flush()
		publish = publish || out.publish

		for _, s := range out.steps {
			p.step(s)
		}

		if len(out.steps) == 0 {
			return publish
		}
	}
}

// step applies a step of the core.
func (p *policy) step(s step) {
	conn := s.conn

	switch s.action {
	case dial:
		p.dial(conn)
	case watch:
		subConn := conn.subConn
		subConn.RegisterHealthListener(func(state balancer.SubConnState) {
			p.onState(conn, subConn, p.core.health, state)
		})

	case shutDown:
		if conn.subConn != nil {
			conn.subConn.Shutdown()
		}

		conn.subConn = nil
	}
}

// dial connects to conn.
func (p *policy) dial(conn *conn) {
	if conn.subConn == nil {
		var subConn balancer.SubConn
		listen := func(state balancer.SubConnState) {
			p.onState(conn, subConn, p.core.changed, state)
		}
		subConn, err := p.cc.NewSubConn(conn.endpoint.GRPC().Addresses,
			balancer.NewSubConnOptions{StateListener: listen})
		if err != nil { // gRPC's policies do not retry a failed NewSubConn either
			p.core.changed(conn, balancer.SubConnState{
				ConnectivityState: connectivity.TransientFailure,
				ConnectionError:   err,
			}, p.now())

			return
		}

		conn.subConn = subConn
	}

	conn.subConn.Connect()
}

// onState queues an event for a state of subConn. If conn has another SubConn
// by the time of handling, the event is dropped.
func (p *policy) onState(
	conn *conn,
	subConn balancer.SubConn,
	event func(*conn, balancer.SubConnState, time.Time),
	s balancer.SubConnState,
) {
	p.queue.put(func() {
		if conn.subConn == subConn {
			event(conn, s, p.now())
		}
	})
}

// wake sets the timer for the core's next selection. A zero time means that no
// selection is due.
func (p *policy) wake(at time.Time) {
	if p.waking != nil {
		p.waking.Stop()
	}

	if !at.IsZero() && !p.closed {
		// do makes the due selection
		p.waking = time.AfterFunc(time.Until(at), func() { p.do(func() {}) })
	}
}

// publish gives gRPC a new picker.
func (p *policy) publish() {
	p.cc.UpdateState(balancer.State{ConnectivityState: p.core.state(), Picker: &picker{
		targets: &p.targets, epoch: p.core.epoch.Load(), plan: p.core.plan,
	}})
}

// UpdateClientConnState handles new endpoints and a new config.
func (p *policy) UpdateClientConnState(s balancer.ClientConnState) error {
	c, err := configOf(s.BalancerConfig)
	if err != nil {
		return err
	}

	p.do(func() {
		p.store(s.ResolverState, c)
		p.replan()

		// Drop the statistics of addresses that have no connection and no calls
		// under way. Each connection has statistics: if the numbers are equal,
		// there is nothing to drop. So most updates do not visit all addresses.
		if !p.in.state.Pending() && p.memory.Len() != len(p.core.conns) {
			p.memory.Keep(func(addr string) bool { return p.core.conns[addr] != nil })
		}
	})

	return nil
}

// store keeps the resolver's state and the config.
func (p *policy) store(s resolver.State, c *config) {
	in := inputFrom(s, c, p.opts.Target.Endpoint())
	if in.state.Health != p.in.state.Health {
		p.core.watchAgain()
	}

	p.memory = cmp.Or(in.state.Client.Stats, p.memory)
	p.in = in
}

// replan makes a plan of p.in, and passes the plan to the core. It updates the
// targets last: by then, core.update has raised the epoch, so a call whose
// target is removed waits for the next picker. The plan of that picker has the
// connections to departed instances.
func (p *policy) replan() {
	var next *connPlan

	in := *p.in // a copy, because each plan has its own departed endpoints
	in.Departed = p.core.departures(&in)

	if in.state.Client.TargetsOnly {
		next = targetsOnly(&in)
	} else {
		next = makePlan(&in)
	}

	next.demanded = func() { p.queue.put(func() { p.core.demanded() }) }

	// While the endpoints are not known, nothing is reported: the drain list
	// and the lanes would seem to name endpoints that do not exist.
	if !in.state.Pending() {
		client := in.state.Client
		before := p.reported
		p.after = append(p.after, func() { client.ReportNew(next.Reports, before) })
		p.reported = next.Reports
	}

	p.core.update(next, p.now())
	p.targets.update(p.in)
}

// ResolverError implements [balancer.Balancer]. It does nothing if endpoints
// are known.
func (p *policy) ResolverError(err error) {
	p.do(func() {
		if len(p.in.Endpoints) > 0 {
			return
		}

		state := *p.in.state
		state.Err = err
		p.in = newInput(&state, p.in.config)
		p.replan()
	})
}

// UpdateSubConnState implements [balancer.Balancer]. It does nothing: gRPC has
// deprecated it, and each SubConn has a listener.
func (p *policy) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements [balancer.Balancer]. The policy is never idle.
func (p *policy) ExitIdle() {}

// Close ends the policy and its connections.
func (p *policy) Close() {
	p.do(func() {
		p.core.closeAll()
		p.closed = true
	})
}

// queue holds events from any goroutine until they are handled one by one. It
// is safe for concurrent use.
type queue struct {
	// schedules calls of takeAll until the queue is empty; runs with mu held,
	// so it must not block
	start func()

	mu        sync.Mutex
	events    []func()
	scheduled bool // a call of takeAll is due
}

// put appends an event. It may be called with any lock held.
func (q *queue) put(event func()) {
	q.mu.Lock()
	defer q.mu.Unlock()

	q.events = append(q.events, event)

	if !q.scheduled {
		q.scheduled = true
		q.start()
	}
}

// takeAll removes and returns all events. If there were none, the next put
// calls start again.
func (q *queue) takeAll() []func() {
	q.mu.Lock()
	defer q.mu.Unlock()

	events := q.events
	q.events = nil
	q.scheduled = len(events) > 0

	return events
}
