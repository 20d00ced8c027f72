// Package etcdconn watches the etcd client's connection: it retries a lost
// connection soon, finds out why it fails, and reports when it is lost and when
// it is back.
package etcdconn

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

// askBound bounds the call that asks for the cause. The bound matters only if
// the connection comes up: while it is down, the call does no I/O.
const askBound = time.Second

// Client describes an etcd client.
type Client struct {
	Endpoints func() []string
	User      string // "" without one
	Logger    *slog.Logger

	// Changed is called when the connection is back after a loss or a failed
	// attempt, when it has been down for lostAfter, and when the error that
	// Down returns changes. back is true in the first case. Changed must return
	// at once.
	Changed func(back bool)
}

// Conn watches the connection of an etcd client. It is safe for concurrent use.
type Conn struct {
	conn   *grpc.ClientConn
	client Client

	mu   sync.Mutex
	core core
}

// New returns a Conn that does nothing before Run. conn is nil for an etcd
// client that was made without clientv3.New. Such a client never counts as
// disconnected.
func New(conn *grpc.ClientConn, client Client) *Conn {
	return &Conn{conn: conn, client: client}
}

// Run watches the connection until ctx ends. While the connection fails, Run
// retries it after at most a second. gRPC's own backoff grows to two minutes,
// so gRPC could take that long to notice that etcd is back.
func (c *Conn) Run(ctx context.Context) {
	if c.conn == nil {
		return
	}

	for ctx.Err() == nil {
		state := c.conn.GetState()
		c.mu.Lock()
		next := c.core.onState(state, time.Now())
		c.mu.Unlock()

		if next.ask {
			c.ask(ctx)
		}

		if next.restored {
			c.client.Logger.Info("etcd is connected again")
		}

		if c.lost() || next.reconnected {
			c.client.Changed(next.reconnected)
		}

		c.await(ctx, state, next.retry)
	}
}

// Why explains the error of a call to etcd, or returns nil if there is nothing
// to add. The explanation names the user whom etcd refuses, gives the last
// error of a connection that is down, or says that etcd does not answer.
func (c *Conn) Why(err error) error {
	return c.connState().Why(err)
}

// Down returns why etcd is not connected, nil if etcd is connected or no
// connection was needed yet.
func (c *Conn) Down() error {
	return c.connState().Down()
}

func (c *Conn) connState() etcdcause.ConnState {
	c.mu.Lock()
	cause := c.core.cause
	c.mu.Unlock()

	now := etcdcause.ConnState{
		State:     connectivity.Ready,
		Cause:     cause,
		User:      c.client.User,
		Endpoints: c.client.Endpoints(),
	}
	if c.conn != nil {
		now.State = c.conn.GetState()
	}

	return now
}

// lost reports whether Changed must be called because the connection is down or
// the reason has changed, and logs a loss.
func (c *Conn) lost() bool {
	down := c.Down()
	c.mu.Lock()
	report, log := c.core.lost(down, time.Now())
	c.mu.Unlock()

	if log {
		c.client.Logger.Warn("etcd is not connected; what is known stays in use",
			"error", down)
	}

	return report
}

// ask gets the cause of a failure: a call that does not wait for the connection
// fails at once with the connection's last error.
func (c *Conn) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()

	_, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{},
		grpc.WaitForReady(false))
	cause := etcdcause.Met(err, c.conn.GetState())
	if cause == nil {
		return // the connection is up again
	}

	c.mu.Lock()
	defer c.mu.Unlock()

	c.core.setCause(cause)
}

// await returns when the connection leaves a state, or when the next retry is
// due.
func (c *Conn) await(ctx context.Context, state connectivity.State, retry time.Duration) {
	if retry == 0 {
		c.conn.WaitForStateChange(ctx, state)
		return
	}

	pause, cancel := context.WithTimeout(ctx, backoff.Jitter(retry))
	defer cancel()

	if !c.conn.WaitForStateChange(pause, state) {
		c.conn.ResetConnectBackoff()
	}
}
