// Package etcdconn looks after the etcd client's connection: it has a lost connection tried again
// soon, finds out why it fails, and reports when it is back.
package etcdconn

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcdcause"
)

// askBound bounds the time to ask for the cause, which takes no I/O while the connection is down.
const askBound = time.Second

// Client is what causes name of an etcd client.
type Client struct {
	Endpoints func() []string
	User      string // "": none
}

// Conn watches the connection of an etcd client. It is safe for concurrent use.
type Conn struct {
	conn   *grpc.ClientConn
	client Client

	mu          sync.Mutex // held while subscribers are called
	core        core
	subscribers map[*func()]struct{}
}

// New returns a Conn that does nothing before Run. conn is nil for an etcd client that was put
// together from parts; such a connection is never known to be down.
func New(conn *grpc.ClientConn, client Client) *Conn {
	return &Conn{conn: conn, client: client, subscribers: make(map[*func()]struct{})}
}

// Run watches the connection until ctx ends. While the connection fails, Run has it tried again after
// a second at most. gRPC's own backoff grows to two minutes, so it could take that long to notice that
// an etcd is back.
func (c *Conn) Run(ctx context.Context) {
	if c.conn == nil {
		return
	}
	for ctx.Err() == nil {
		state := c.conn.GetState()
		do := c.saw(state)
		if do.ask {
			c.ask(ctx)
		}
		c.await(ctx, state, do.retry)
	}
}

// Cause returns why the connection is down: the last error that it met. It returns nil while the
// connection is up, or has not failed yet. A function given to Reconnected must not call it.
func (c *Conn) Cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.core.cause
}

// Why returns what the error of a call to etcd does not say itself, nil if there is nothing to add: the user
// whom etcd refuses, the Cause, or that etcd is silent. A function given to Reconnected must not call it.
func (c *Conn) Why(err error) error { return c.standing().Why(err) }

// Down returns why there is no connection to etcd, nil if there is one or nobody has asked for one yet.
func (c *Conn) Down() error { return c.standing().Down() }

func (c *Conn) standing() etcdcause.Standing {
	now := etcdcause.Standing{State: connectivity.Ready, Cause: c.Cause(), User: c.client.User, Endpoints: c.client.Endpoints()}
	if c.conn != nil {
		now.State = c.conn.GetState()
	}
	return now
}

// Reconnected has f called, until stop is called, whenever the connection comes up after it was lost or
// could not be made. f must return at once and not call stop.
func (c *Conn) Reconnected(f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subscribers[&f] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, &f)
	}
}

func (c *Conn) saw(state connectivity.State) do {
	c.mu.Lock()
	defer c.mu.Unlock()
	do := c.core.saw(state, time.Now())
	if do.reconnected {
		for f := range c.subscribers {
			(*f)()
		}
	}
	return do
}

// ask finds out why the connection fails: a call that does not wait for the connection fails at once
// with its last error.
func (c *Conn) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	_, err := healthpb.NewHealthClient(c.conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.WaitForReady(false))
	cause := etcdcause.Met(err, c.conn.GetState())
	if cause == nil {
		return // it was up just now
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.core.failed(cause)
}

// await returns when the connection leaves a state, or when it is to be tried again.
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
