package balancer

import (
	"errors"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

// notConnected is the state of a SubConn that has not been told to connect.
var notConnected = balancer.SubConnState{ConnectivityState: connectivity.Idle}

// errEnded is the error of calls while connections do not last.
var errEnded = errors.New("etcd: the server has ended the connection, and others before")

// bound has the SubConns made from now on share a budget with other connections to the service.
func (p *pool) bound(b *descriptors.Budget) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.budget != b {
		p.budget, p.share = b, b.NewShare()
	}
}

// costOf returns how many descriptors connecting to addresses may take.
func costOf(addrs []resolver.Address) int {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.Addr
	}
	return descriptors.Cost(texts...)
}

// mayDial reports whether a SubConn may connect now. If it has to wait for its place, its users hear so. target says
// that a call names the instance. It must be called with mu held.
func (p *pool) mayDial(e *entry, target bool) bool {
	outcome := e.place.Want(target, time.Now())
	if outcome == descriptors.Held {
		e.stopWaiting()
		return true
	}
	p.wait(e, outcome)
	return false
}

// wait puts a SubConn that was refused its place into TRANSIENT_FAILURE, which calls do not wait for. It must be
// called with mu held.
func (p *pool) wait(e *entry, outcome descriptors.Outcome) {
	paced := outcome == descriptors.Paced
	if e.waits || !paced && outcome != descriptors.Refused {
		return
	}
	err := p.budget.Err()
	if paced && e.failed != nil {
		err = e.failed
	}
	e.waits, e.paced = true, paced
	e.state = balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: err}
	p.countAll(e)
	for _, w := range e.users {
		if w.connected && !e.knownToWait(w) {
			p.tell(w, e.state)
		}
	}
	if report := p.budget.Report(time.Now()); report != nil {
		p.after = append(p.after, report)
	}
}

// knownToWait reports whether w need not hear that e waits for its turn: it has heard of a failure since it was last
// ready. At each failure that they hear of, gRPC's policies go through all of their endpoints.
func (e *entry) knownToWait(w *subConn) bool { return e.paced && w.failed }

// stopWaiting makes a SubConn that waits idle again. It must be called with pool.mu held.
func (e *entry) stopWaiting() {
	if e.waits {
		e.waits, e.paced, e.state = false, false, notConnected
		e.pool.countAll(e)
	}
}

// noteState tells the budget what has become of the connection. It must be called with pool.mu held.
func (e *entry) noteState(s balancer.SubConnState) {
	switch s.ConnectivityState {
	case connectivity.Ready:
		e.place.Opened(time.Now())
	case connectivity.TransientFailure:
		e.failed = s.ConnectionError
		if !e.checks { // a connection to a server that is not well stays open
			e.place.Failed(time.Now())
		}
	case connectivity.Idle:
		if e.state.ConnectivityState == connectivity.Ready {
			e.failed = errEnded
		}
		e.place.Ended(time.Now())
	}
}

// The budget calls Dial, Refuse and Reclaim with its lock held, so they only put events into the queue.

// Dial implements [descriptors.Holder].
func (e *entry) Dial() { e.pool.deliver(func() { e.pool.dial(e) }) }

// Refuse implements [descriptors.Holder].
func (e *entry) Refuse() { e.pool.deliver(func() { e.pool.refuse(e) }) }

// Reclaim implements [descriptors.Holder].
func (e *entry) Reclaim() { e.pool.deliver(func() { e.pool.reclaim(e) }) }

// dial is the event that Dial queues.
func (p *pool) dial(e *entry) {
	p.mu.Lock()
	_, known := p.all[e]
	used := known && len(e.users) > 0
	e.stopWaiting()
	p.mu.Unlock()
	if used {
		e.conn.Connect()
	}
}

// refuse is the event that Refuse queues.
func (p *pool) refuse(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wait(e, e.place.Outcome())
}

// reclaim is the event that Reclaim queues.
func (p *pool) reclaim(e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.unused[e]; ok {
		p.giveUp(e)
	}
}
