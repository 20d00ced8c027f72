package balancer

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// conn is the connection to an address: there is one, whoever calls it. The core decides what becomes of it, and the shell
// has gRPC do it.
type conn struct {
	addr    string
	stats   *picking.Stats            // of the connection's Memory
	current atomic.Pointer[condition] // as picks see it

	// The shell's.
	subConn balancer.SubConn // nil: there is none

	// The core's.
	endpoint  resolver.Endpoint
	state     connectivity.State // the SubConn's
	inPlan    uint64             // the number of the last plan in which it may be called
	open      bool               // connected, and no health check says otherwise: an ejection counts for nothing
	wanted    bool               // by the plan
	wasWanted bool               // ... when that was last decided
	named     bool               // by a call, so that it stays while its instance does
	dialing   bool               // it was told to connect, and has not answered
	triedAt   time.Time          // when it was last told so, or its health began to be asked for anew
	retryAt   time.Time          // it must not connect before
	closeAt   time.Time          // when it is closed, for nothing wants it; zero: never
}

// condition is what picks need to know of a connection. It is immutable.
type condition struct {
	readiness readiness
	subConn   balancer.SubConn // while it is ready
	named     balancer.SubConn // for calls that name the instance: while it is open
	late      bool             // it is trying, and has been for knownWithin
	joined    bool             // it is trying for the first time while others serve: calls do not wait for it
	err       error            // why it is failing
}

// readiness is how a connection counts for the plan.
type readiness int8

const (
	trying  readiness = iota // it is new, connects, or waits to be asked
	ready                    // connected, and not known to be unwell
	failing                  // tried in vain
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

// isNew reports whether nothing was done about x yet.
func (x *conn) isNew() bool {
	now := x.current.Load()
	return x.state == connectivity.Idle && !x.dialing && (now == untried || now == joined)
}

// isAwaited reports whether x connects, or is connected and has yet to tell its health, and may well serve soon.
func (x *conn) isAwaited() bool {
	c := x.current.Load()
	return c.readiness == trying && !c.late && (x.dialing || x.state != connectivity.Idle)
}

// isConnecting reports whether x connects, or waits to try that again.
func (x *conn) isConnecting() bool {
	return x.state == connectivity.Connecting || x.state == connectivity.TransientFailure
}

// isUsed reports whether the plan or calls that name its instance want x.
func (x *conn) isUsed() bool { return x.wanted || x.named }
