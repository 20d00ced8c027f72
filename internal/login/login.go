// Package login keeps the calls of an etcd client with a password from logging in all at once.
//
// etcd's client logs in for each stream that it opens, and for each call that meets an expired token. A login costs etcd some 60 ms of a
// processor, so that a fleet whose calls each log in keeps an etcd overloaded that has just restarted.
package login

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// trusted is how long a token that etcd has accepted is trusted. etcd forgets a token that was not used for --auth-token-ttl.
	trusted = 5 * time.Second
	// timeout is the least that a call has which may log in: a login that is given up is begun again, behind all others.
	timeout = 16 * time.Second
	// Wait is how long calls wait for their turn, which an etcd that hangs may not give up.
	Wait = 30 * time.Second
)

// Login lets one call at a time find out whether the client's token is still valid. It is safe for concurrent use.
type Login struct {
	turn chan time.Time // has the time when etcd last accepted the token; empty while a call finds out
}

// Of returns the Login of a client that has just logged in, nil for a client without a password.
func Of(c *clientv3.Client) *Login {
	if c.Username == "" {
		return nil
	}
	l := &Login{turn: make(chan time.Time, 1)}
	l.turn <- time.Now()
	return l
}

// Turn waits while another call finds out whether the token is valid, at most for a time. It returns the timeout for the caller's call, and
// a function to call with the outcome. A nil Login does nothing.
func (l *Login) Turn(ctx context.Context, wait, call time.Duration) (_ time.Duration, done func(error)) {
	if l == nil {
		return call, func(error) {}
	}
	waiting := time.NewTimer(wait)
	defer waiting.Stop()
	select {
	case accepted := <-l.turn:
		if time.Since(accepted) < trusted {
			l.turn <- accepted
			return call, l.accepted
		}
		return max(call, timeout), func(err error) {
			if err == nil {
				accepted = time.Now()
			}
			l.turn <- accepted
		}
	case <-waiting.C:
	case <-ctx.Done():
	}
	return call, func(error) {}
}

// accepted records the outcome of a call beside others.
func (l *Login) accepted(err error) {
	if err != nil {
		return
	}
	select {
	case <-l.turn:
		l.turn <- time.Now()
	default: // another call finds out
	}
}

// Reconnected makes the next call find out whether the token is valid: etcd forgets all tokens when it restarts.
func (l *Login) Reconnected() {
	if l == nil {
		return
	}
	select {
	case <-l.turn:
		l.turn <- time.Time{}
	default:
	}
}
