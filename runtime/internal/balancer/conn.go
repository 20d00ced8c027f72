package balancer

import (
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/descriptors"
)

// conn is the connection to an address: there is one, whoever calls it. The core decides what becomes of it, and the shell
// has gRPC do it.
type conn struct {
	addr     string
	*station // kept while gRPC is idle

	now atomic.Pointer[condition] // as picks see it

	// The shell's.
	subConn balancer.SubConn // nil: there is none
	place   *descriptors.Place

	// The core's.
	endpoint resolver.Endpoint
	raw      connectivity.State // the SubConn's
	wanted   bool               // by the plan
	left     uint64             // the number of the last plan in which it may be called
	named    bool               // by a call, so that it stays while its instance does
	dialing  bool               // it was told to connect, and has not answered
	healthy  bool               // while it is ready
	kind     kind               // as counted
	since    time.Time          // it was last ready from then on
	brief    int                // how many of its connections, one after the other, have ended at once
	notYet   time.Time          // it must not connect before
	spare    time.Time          // it is closed then, for nothing wants it; zero: something does
}

// condition is what picks need to know of a connection. It is immutable.
type condition struct {
	kind    kind
	subConn balancer.SubConn // while it is ready
	waits   bool             // for a place in the budget, and it was never tried
	again   bool             // it is trying, and was connected or tried before
	err     error            // why it is failing
}

// kind is how a connection counts for the plan.
type kind int8

const (
	trying  kind = iota // it is new, connects, or waits to be asked
	ready               // connected, and not known to be unwell
	failing             // tried in vain
)

var untried = &condition{kind: trying}

func newConn(addr string, x *station) *conn {
	c := &conn{addr: addr, station: x, raw: connectivity.Idle}
	c.now.Store(untried)
	return c
}
