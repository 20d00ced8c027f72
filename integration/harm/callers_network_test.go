package harm

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
)

// network lies between clients and servers. Clients dial an invented address
// for each server, which a restart does not change, and their bytes go over
// real sockets. An address without a server refuses connections.
type network struct {
	mu    sync.Mutex
	links map[string]*link // by address
}

// to returns the link to the address addr.
func (n *network) to(addr string) *link {
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.links[addr] == nil {
		n.links[addr] = &link{conns: map[*conn]struct{}{}, changed: make(chan struct{})}
	}

	return n.links[addr]
}

// link is the path from clients to one address, with the connections that use
// the path.
type link struct {
	mu      sync.Mutex
	target  string // the server's real address; "": connections are refused
	quality quality
	conns   map[*conn]struct{}
	changed chan struct{} // closed when quality or target changes
}

// quality describes the faults of a link.
type quality struct {
	drop bool // dials are not answered, as if SYNs were dropped
	hole bool // no bytes pass over connections, in either direction
}

// set changes the quality of the link.
func (l *link) set(change func(*quality)) {
	l.mu.Lock()
	defer l.mu.Unlock()

	change(&l.quality)
	l.notify()
}

func (l *link) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// point points the link at a server; "" means no server.
func (l *link) point(target string) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.target = target
	l.notify()
}

// reset resets all connections over the link.
func (l *link) reset() {
	l.mu.Lock()
	open := slices.Collect(maps.Keys(l.conns)) // a reset removes a connection from conns
	l.mu.Unlock()

	for _, c := range open {
		c.reset()
	}
}

func (l *link) now() (quality, string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.quality, l.target, l.changed
}

// dialer returns a dialer whose dials and connections t counts.
func (n *network) dialer(t *tally) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		l := n.to(addr)
		swallowed := t.dialing(addr)

		q, target, changed := l.now()
		for q.drop || swallowed {
			select {
			case <-changed:
				q, target, changed = l.now()
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}

		if target == "" {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}

		inner, err := new(net.Dialer).DialContext(ctx, "tcp", target)
		if err != nil {
			return nil, err
		}

		c := &conn{Conn: inner, link: l, tally: t, closed: make(chan struct{})}

		l.mu.Lock()
		l.conns[c] = struct{}{}
		l.mu.Unlock()

		t.hold(1)

		return c, nil
	}
}

// conn is a client's end of a connection.
type conn struct {
	net.Conn
	link   *link
	tally  *tally
	once   sync.Once
	closed chan struct{}
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.pass()

	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	c.pass()
	return c.Conn.Write(p)
}

// pass blocks while the link is a hole and the connection is open.
func (c *conn) pass() {
	q, _, changed := c.link.now()
	for q.hole {
		select {
		case <-changed:
			q, _, changed = c.link.now()
		case <-c.closed:
			return
		}
	}
}

// reset closes the connection and sends the server a RST, as a middlebox does.
func (c *conn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails if the connection is closed
	}

	_ = c.Close() // fails if the connection is closed
}

func (c *conn) Close() error {
	c.once.Do(func() {
		close(c.closed)

		c.link.mu.Lock()
		delete(c.link.conns, c)
		c.link.mu.Unlock()

		c.tally.hold(-1)
	})

	return c.Conn.Close()
}
