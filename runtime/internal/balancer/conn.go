package balancer

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// conn is the one connection to an address. The core decides, and the shell acts.
type conn struct {
	addr    string
	stats   *picking.Stats            // of the connection's Memory
	current atomic.Pointer[condition] // as picks see it

	subConn balancer.SubConn // set by the shell; nil: not connected

	// The core owns these.
	endpoint resolver.Endpoint
	state    connectivity.State // the SubConn's; Connecting from the moment it is dialed
	inPlan   bool               // the plan has its endpoint, and it has not left
	selected uint64             // the number of the last selection with it
	named    bool               // a call has named it: it stays open while its instance exists
	triedAt  time.Time          // of the last dial, or when its health became unknown
	closeAt  time.Time          // when to close it as unused; zero: never
}

// condition is the state of a connection as picks see it. It is immutable.
type condition struct {
	readiness readiness
	subConn   balancer.SubConn // while it is connected and its health check does not fail: calls that name the instance may use it
	err       error            // why readiness is failing
}

// forPlan returns the SubConn for calls without a named instance, nil if it cannot take them.
func (c *condition) forPlan() balancer.SubConn {
	if c.readiness != ready {
		return nil
	}
	return c.subConn
}

// readiness is the ability of a connection to take calls.
type readiness int8

const (
	trying  readiness = iota // new, idle or connecting, or its health is unknown: calls wait for it
	joining                  // trying for the first time while others serve: calls do not wait for it
	late                     // trying for longer than readyTimeout: other endpoints are tried
	ready                    // connected, and not known to be unhealthy
	failing                  // the last attempt failed, or it is unhealthy or ejected
	numReadiness
)

// isExpected reports whether a connection is ready, or may soon be.
func (r readiness) isExpected() bool { return r == trying || r == joining || r == ready }

var untried = &condition{readiness: trying}

func newConn(addr string, stats *picking.Stats) *conn {
	conn := &conn{addr: addr, stats: stats, state: connectivity.Idle}
	conn.current.Store(untried)
	return conn
}

func (conn *conn) readiness() readiness { return conn.current.Load().readiness }

func (conn *conn) is(r readiness) bool { return conn.readiness() == r }

// isAwaited reports whether conn connects or has yet to report its health, and is not late.
func (conn *conn) isAwaited() bool {
	return conn.state != connectivity.Idle && (conn.is(trying) || conn.is(joining))
}
