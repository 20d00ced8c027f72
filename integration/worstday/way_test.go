package worstday

import (
	"context"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// way carries the bytes between the processes and etcd. Cuts and pauses are those of [etcdtest.Cluster].
type way struct {
	mu     sync.Mutex
	refuse bool                       // connections are refused
	lose   bool                       // answers do not arrive
	delay  time.Duration              // of answers
	waits  map[string]<-chan struct{} // new connections to an address wait for its channel
}

func hostOf(endpoint string) string { return strings.TrimPrefix(endpoint, "http://") }

// set changes the way.
func (w *way) set(change func(*way)) { w.mu.Lock(); defer w.mu.Unlock(); change(w) }

func (w *way) dial(ctx context.Context, addr string) (net.Conn, error) {
	addr = hostOf(addr)
	w.mu.Lock()
	refuse, wait := w.refuse, w.waits[addr]
	w.mu.Unlock()
	if refuse {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	inner, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, way: w, in: make(chan answer, 1024), closed: make(chan struct{})}
	go c.receive()
	return c, nil
}

// answer is bytes from etcd, and when the client gets them.
type answer struct {
	data []byte
	due  time.Time
}

// conn is a connection of a client.
type conn struct {
	net.Conn
	way     *way
	in      chan answer
	err     error  // valid when in is closed
	rest    []byte // of the last answer
	closing sync.Once
	closed  chan struct{}
}

func (c *conn) receive() {
	defer close(c.in)
	for {
		buf := make([]byte, 16<<10)
		var n int
		if n, c.err = c.Conn.Read(buf); c.err != nil {
			return
		}
		c.way.mu.Lock()
		lose, due := c.way.lose, time.Now().Add(c.way.delay)
		c.way.mu.Unlock()
		if lose {
			continue
		}
		select {
		case c.in <- answer{buf[:n], due}:
		case <-c.closed:
			return
		}
	}
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		a, ok := <-c.in
		if !ok {
			return 0, c.err
		}
		if d := time.Until(a.due); d > 0 {
			late := time.NewTimer(d)
			defer late.Stop()
			select {
			case <-late.C:
			case <-c.closed:
				return 0, net.ErrClosed
			}
		}
		c.rest = a.data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *conn) Close() error {
	c.closing.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
