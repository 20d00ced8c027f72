package etcdconn

import (
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

// The bound of the pause before a failed connection is tried again is a twentieth of the time that it
// has been down, within these limits. The pause itself is between half of the bound and all of it.
const (
	minPause = 300 * time.Millisecond
	maxPause = time.Second
)

// causeEvery is the least time between two questions for the cause of a failure. The etcd client logs
// each.
const causeEvery = 5 * time.Second

// core decides what to do about the states that the connection goes through. It does no I/O and reads
// no clock.
type core struct {
	again bool      // the connection was up or has failed before: when it is up next, it is back
	since time.Time // since when it is down; zero: it is up
	asked time.Time // when the cause was last asked for
	cause error     // why it is down; nil: it is up, or the cause is not known
}

// do is what the shell is to do: the retry after a pause, the rest at once.
type do struct {
	reconnected bool          // call the subscribers
	ask         bool          // ask for the cause, and report it by failed
	retry       time.Duration // bound of the pause before the next try; 0: leave that to gRPC
}

// saw takes a state that the connection has entered.
func (c *core) saw(state connectivity.State, now time.Time) do {
	if state == connectivity.Ready {
		again := c.again
		*c = core{again: true}
		return do{reconnected: again}
	}
	if c.since.IsZero() {
		c.since = now
	}
	if state != connectivity.TransientFailure {
		return do{}
	}
	c.again = true
	ask := now.Sub(c.asked) >= causeEvery
	if ask {
		c.asked = now
	}
	return do{ask: ask, retry: min(max(now.Sub(c.since)/20, minPause), maxPause)}
}

// failed takes the cause.
func (c *core) failed(cause error) { c.cause = etcdcause.Latest(c.cause, cause) }
