// Package login keeps the calls of an etcd client with a password from logging
// in all at once.
//
// etcd's client logs in for each stream that it opens, and for each call that
// meets an expired token. A login costs etcd some 60 ms of a processor. So a
// fleet whose calls all log in would keep an etcd that has just restarted
// overloaded.
package login

import (
	"context"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

const (
	// trusted is how long a token that etcd has accepted is trusted. etcd
	// forgets a token that was not used for --auth-token-ttl.
	trusted = 5 * time.Second

	// callTimeout is the shortest timeout of a call that may log in. A login
	// that is given up and begun again goes to the end of etcd's queue.
	callTimeout = 16 * time.Second

	// maxWait bounds the wait of a call for its turn: a call that etcd does not
	// answer keeps the turn.
	maxWait = 30 * time.Second

	// maxStreamWait bounds the wait of a stream. It is short, since a lease
	// does not wait.
	maxStreamWait = time.Second
)

// Login lets one call or stream of renewals log in at a time. Streams of
// watches log in without it: a client hardly has more than one. It is safe for
// concurrent use. A nil Login does nothing.
type Login struct {
	turn        chan struct{} // full while a call or a stream may log in
	accepted    atomic.Int64  // when etcd last accepted the token, in Unix nanoseconds
	reconnected atomic.Int64  // when the client last reconnected
}

// Of returns the Login of a client, whose token is trusted at first. It returns
// nil for a client without a password.
func Of(c *clientv3.Client) *Login {
	if c.Username == "" {
		return nil
	}

	l := &Login{turn: make(chan struct{}, 1)}
	l.accepted.Store(time.Now().UnixNano())

	return l
}

// Reconnected ends the trust in the token: etcd forgets all tokens when it
// restarts.
func (l *Login) Reconnected() {
	if l != nil {
		l.reconnected.Store(time.Now().UnixNano())
	}
}

// Turn waits until a call may begin, and returns the call's timeout. If the
// token is trusted, Turn does not wait. Otherwise it waits for the call or
// stream that has the turn, and the timeout is longer if the call may log in.
// The caller must call done with the call's error.
func (l *Login) Turn(
	ctx context.Context,
	timeout time.Duration,
) (_ time.Duration, done func(error)) {
	if l == nil {
		return timeout, func(error) {}
	}

	release := func() {}
	if !l.isTrusted() {
		release = l.take(ctx, maxWait)
	}

	if l.isTrusted() { // perhaps by now: then all calls that wait go on
		release()
		return timeout, l.done(func() {})
	}

	return max(timeout, callTimeout), l.done(release)
}

// Stream waits shortly for the turn to open a stream, which logs in. The caller
// must call done with the outcome.
func (l *Login) Stream(ctx context.Context) (done func(error)) {
	if l == nil {
		return func(error) {}
	}

	return l.done(l.take(ctx, maxStreamWait))
}

// done returns a function to call at the end of a call or stream that begins
// now. If etcd has accepted its token, the token is trusted.
func (l *Login) done(release func()) func(error) {
	began := time.Now().UnixNano()

	return func(err error) {
		accepted := err == nil || etcderr.Code(err) == codes.PermissionDenied
		if accepted && began >= l.reconnected.Load() {
			l.accepted.Store(time.Now().UnixNano())
		}

		release()
	}
}

func (l *Login) isTrusted() bool {
	accepted := l.accepted.Load()
	return accepted > l.reconnected.Load() && time.Since(time.Unix(0, accepted)) < trusted
}

// take takes the turn, or gives up after a time. release gives the turn back.
func (l *Login) take(ctx context.Context, most time.Duration) (release func()) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()

	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }
	case <-ctx.Done():
		return func() {}
	}
}
