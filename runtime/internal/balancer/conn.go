package balancer

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// conn is the policy's only connection to an address.
type conn struct {
	addr    string
	stats   *picking.Stats            // the address's statistics in the policy's Memory
	current atomic.Pointer[condition] // the condition as picks see it

	// under ring_hash, whether a call has reached the endpoint, and its
	// connection has not ended since
	reached atomic.Bool

	// conn has been unused for linger. Once its instance has departed, only
	// calls that name the instance use conn.
	spare atomic.Bool

	// set by the shell; nil before the dial and after the shutdown
	subConn balancer.SubConn

	// The core owns the fields below.
	endpoint *model.Backend

	state    connectivity.State // the state of the SubConn; Connecting from the dial on
	inPlan   bool               // the plan has the endpoint, which has not departed
	departed bool               // the plan has the endpoint, which has departed

	// the plan uses the endpoint, whichever endpoints are ready
	always bool

	// the number of the last selection of connections that includes conn
	selected uint64

	loose bool // conn is in core.loose

	// a call has named the instance: conn stays open while the instance is
	// registered
	named bool

	// a call had named the instance before it left: see keepUnused
	outlasts bool

	// when the present attempt to get conn ready began: with a dial, or with
	// unknown health. An attempt may take several dials. Zero before the first
	// attempt, and after an attempt has succeeded or failed.
	triedAt time.Time

	closeAt time.Time // when to close the unused conn; zero means never
}

// condition is the state of a connection as picks see it. It is immutable.
type condition struct {
	readiness readiness
	subConn   balancer.SubConn // nil unless connected and without a failing health check
	err       error            // why the connection is failing; nil if it is not
}

// isEjected reports whether outlier detection has ejected the endpoint. Calls
// that name the instance use it all the same. Other calls use it only while
// nothing else in their tiers is ready. A whole tier may be ejected, because
// the maximum of ejections counts all endpoints.
func (c *condition) isEjected() bool {
	return c.readiness == failing && c.subConn != nil
}

// readiness is the ability of a connection to take calls.
type readiness int8

const (
	// new, idle, connecting, or of unknown health; calls wait for the
	// connection
	trying readiness = iota

	// trying for the first time while other endpoints serve; calls do not wait
	// for the connection
	joining

	// trying for longer than readyTimeout: other endpoints are tried
	late
	ready // connected, and not known to be unhealthy

	// the last attempt failed, or the endpoint is unhealthy or ejected
	failing
	numReadiness
)

// isExpected reports whether a connection is ready, or may soon be ready.
func (r readiness) isExpected() bool {
	return r == trying || r == joining || r == ready
}

var untried = &condition{readiness: trying}

func newConn(addr string, stats *picking.Stats) *conn {
	conn := &conn{addr: addr, stats: stats, state: connectivity.Idle}
	conn.current.Store(untried)

	return conn
}

func (conn *conn) readiness() readiness {
	return conn.current.Load().readiness
}

// isSilent reports whether conn is connecting, and has been tried for
// readyTimeout.
func (conn *conn) isSilent(now time.Time) bool {
	return conn.state == connectivity.Connecting && now.Sub(conn.triedAt) >= readyTimeout
}

func (conn *conn) is(r readiness) bool {
	return conn.readiness() == r
}

// isAwaited reports whether conn is connecting or has not reported its health
// yet, and is not late.
func (conn *conn) isAwaited() bool {
	return conn.state != connectivity.Idle && (conn.is(trying) || conn.is(joining))
}
