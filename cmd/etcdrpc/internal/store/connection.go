package store

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

// connection is what the requests to etcd meet of the connection. Its zero value has met nothing.
type connection struct {
	standing atomic.Pointer[etcdcause.Standing] // at the last error; nil: none since the last answer
	handed   atomic.Bool                        // to somebody who finds out himself
}

// downError is what the connection met. It has no gRPC status, so etcd's client does not try the request again.
type downError struct {
	error
	sent bool // the request may have been
}

// UnansweredError is that of a request which etcd did not answer, or refused.
type UnansweredError struct{ error }

// Unwrap returns the cause.
func (e UnansweredError) Unwrap() error { return e.error }

// intercept ends a request as soon as no member of etcd can be connected to. etcd's client would wait until the time is
// over. The connection is tried again at once, for the next request.
func (c *connection) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if c.handed.Load() {
		return invoke(ctx, method, req, reply, conn, opts...)
	}
	err := invoke(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
	if err == nil {
		c.standing.Store(nil)
		return nil
	}
	state := conn.GetState()
	cause := c.meet(state, etcdcause.Met(err, state))
	if cause == nil {
		return err
	}
	conn.ResetConnectBackoff()
	// So gRPC begins what it says of requests that it has not sent, for want of a connection.
	return downError{cause, !strings.Contains(err.Error(), "connection error:")}
}

// meet takes in a state of the connection, and returns why it is down, nil if it is up or that is not known.
func (c *connection) meet(state connectivity.State, cause error) error {
	if last := c.standing.Load(); last != nil {
		cause = etcdcause.Latest(last.Cause, cause)
	}
	c.standing.Store(&etcdcause.Standing{State: state, Cause: cause})
	return cause
}

// why returns what the error of a request does not say itself, nil if there is nothing to add.
func (c *connection) why(err error, user string, endpoints []string) error {
	now := c.standing.Load()
	if now == nil {
		return nil
	}
	known := *now
	known.User, known.Endpoints = user, endpoints
	return known.Why(err)
}

// remedy says what may help against a cause, "" if nothing is known to.
func remedy(cause string) string {
	for _, r := range []struct{ cause, remedy string }{
		{"certificate signed by unknown authority", "--cacert names the CA of its certificate"},
		{"x509: ", "look at its certificate, and at the names in --endpoints"},
		{"remote error: tls: ", "it wants a client certificate that it trusts: --cert and --key"},
		{"authentication handshake failed", "if it does not speak TLS, leave out --cacert, --cert, --key and https://"},
		{"error reading server preface", "if it speaks TLS, give --cacert, or https:// in --endpoints"},
		{"connection error: ", "check --endpoints"},
		{"there is no connection", "check --endpoints; or it hangs"},
	} {
		if strings.Contains(cause, r.cause) {
			return r.remedy
		}
	}
	return ""
}
