package etcdconn

import (
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// minPause and maxPause limit the pause before a failed connection is retried.
// The bound of the pause is a twentieth of the time since the connection went
// down, within these limits. The pause is random, from half of the bound to the
// bound.
const (
	minPause = 300 * time.Millisecond
	maxPause = time.Second
)

// causeEvery is the minimum time between two requests for the cause of a
// failure: the etcd client logs each request.
const causeEvery = 5 * time.Second

// lostAfter is how long the connection is down before its loss is reported: a
// connection that only moves to another member is soon back.
const lostAfter = time.Second

// core decides how to react to the states of the connection. It does no I/O and
// reads no clock.
type core struct {
	// the connection has been up or has failed; if so, the next Ready is a
	// reconnect
	again bool

	since time.Time // when the connection went down, zero while it is up
	asked time.Time // when the cause was last requested

	// why the connection is down; nil while it is up, or if the cause is not
	// known
	cause error

	// the last reported reason of the loss; nil while the connection is up, or
	// if the loss was not reported
	reason error
}

// command lists the shell's next actions. The retry follows after a pause, and
// the other actions at once.
type command struct {
	reconnected bool // report that the connection is back
	restored    bool // log the end of a loss that was logged
	ask         bool // request the cause, and pass it to setCause

	// the bound of the pause before the retry; 0 leaves the retry to gRPC
	retry time.Duration
}

// onState handles a state that the connection has entered.
func (c *core) onState(state connectivity.State, now time.Time) command {
	if state == connectivity.Ready {
		next := command{reconnected: c.again, restored: c.reason != nil}
		*c = core{again: true}

		return next
	}

	if c.since.IsZero() {
		c.since = now
	}

	if state == connectivity.Connecting && c.again {
		// so that Run soon checks again whether to report the loss
		return command{retry: lostAfter}
	}

	if state != connectivity.TransientFailure {
		return command{}
	}

	c.again = true

	ask := now.Sub(c.asked) >= causeEvery
	if ask {
		c.asked = now
	}

	return command{ask: ask, retry: min(max(now.Sub(c.since)/20, minPause), maxPause)}
}

// lost returns whether to report that the connection is down, and whether to
// log that. down is the reason, nil if no connection is needed. A loss is
// logged once, and reported again if the reason changes.
func (c *core) lost(down error, now time.Time) (report, log bool) {
	if down == nil ||
		!c.again ||
		c.since.IsZero() ||
		now.Sub(c.since) < lostAfter ||
		etcderr.Same(down, c.reason) {
		return false, false
	}

	log = c.reason == nil
	c.reason = down

	return true, log
}

// setCause records the cause of a failure.
func (c *core) setCause(cause error) {
	c.cause = etcdcause.Latest(c.cause, cause)
}
