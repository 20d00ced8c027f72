package balancer

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// conn is the one connection to an address. The core decides about it, and the shell carries that out.
type conn struct {
	addr    string
	stats   *picking.Stats            // of the connection's Memory
	current atomic.Pointer[condition] // as picks see it

	// The shell's.
	subConn balancer.SubConn // nil: there is none

	// The core's.
	endpoint  resolver.Endpoint
	state     connectivity.State // the SubConn's
	inPlan    uint64             // the number of the last plan that has the endpoint, not as one that has left
	open      bool               // connected, and healthy if its health is watched; it may be ejected
	wanted    bool               // by the plan
	wasWanted bool               // wanted, as of the selection before
	named     bool               // by a call; it stays open while its instance exists
	dialing   bool               // dial was issued, and no state has followed
	triedAt   time.Time          // of the last dial, or when its health became unknown
	retryAt   time.Time          // no dial before this
	closeAt   time.Time          // when it is closed as unused; zero: never
}

// condition is the state of a connection as picks see it. It is immutable.
type condition struct {
	readiness readiness
	subConn   balancer.SubConn // while it is ready
	named     balancer.SubConn // for calls that name the instance: while it is open
	late      bool             // it is trying, and has been for knownWithin
	joined    bool             // it is tried for the first time while others serve: calls do not wait for it
	err       error            // of failing
}

// readiness is whether a connection can take calls.
type readiness int8

const (
	trying  readiness = iota // new, idle or connecting, or its health is unknown
	ready                    // connected, and not known to be unhealthy
	failing                  // the last attempt failed, or it is unhealthy or ejected
)

var (
	untried = &condition{readiness: trying}
	joined  = &condition{readiness: trying, joined: true}
)

func newConn(addr string, stats *picking.Stats) *conn {
	x := &conn{addr: addr, stats: stats, state: connectivity.Idle}
	x.current.Store(untried)
	return x
}

func (x *conn) is(r readiness) bool { return x.current.Load().readiness == r }

// isNew reports whether x was never dialed.
func (x *conn) isNew() bool {
	now := x.current.Load()
	return x.state == connectivity.Idle && !x.dialing && (now == untried || now == joined)
}

// isAwaited reports whether x connects or has yet to report its health, and is not late.
func (x *conn) isAwaited() bool {
	c := x.current.Load()
	return c.readiness == trying && !c.late && (x.dialing || x.state != connectivity.Idle)
}

// isUsed reports whether the plan wants x, or calls may name its instance.
func (x *conn) isUsed() bool { return x.wanted || x.named }
