// Package listener remembers the connections of a TCP listener, so that a server that stops need not wait for those on which
// nobody says anything: neither stop of gRPC's ends them before they time out, and that of net/http takes them for busy.
package listener

import (
	"net"
	"sync"
	"sync/atomic"
)

// Conns are the open connections of a listener.
type Conns struct {
	mu     sync.Mutex
	open   map[*conn]struct{}
	closed bool // to new ones
}

// Watch returns the listener to serve on in place of lis, and its connections. It looks into a *net.TCPListener alone:
// what serves on another may want to see the types of its connections, as net/http does those of crypto/tls.
func Watch(lis net.Listener) (net.Listener, *Conns) {
	c := &Conns{open: make(map[*conn]struct{})}
	if tcp, ok := lis.(*net.TCPListener); ok {
		lis = &listener{tcp, c}
	}
	return lis, c
}

// CloseSilent closes the connections on which nothing has been read, and new ones from then on.
func (c *Conns) CloseSilent() { c.close(func(conn *conn) bool { return !conn.said.Load() }) }

// Close closes all.
func (c *Conns) Close() { c.close(func(*conn) bool { return true }) }

func (c *Conns) close(which func(*conn) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		if which(conn) {
			_ = conn.TCPConn.Close() // an error: it is closed by now
		}
	}
}

func (c *Conns) add(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[conn] = struct{}{}
	if c.closed {
		_ = conn.TCPConn.Close() // who serves it will see
	}
}

func (c *Conns) remove(conn *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

type listener struct {
	*net.TCPListener
	conns *Conns
}

func (l *listener) Accept() (net.Conn, error) {
	tcp, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: tcp, conns: l.conns}
	l.conns.add(c)
	return c, nil
}

// conn is a connection that knows whether something has been read from it.
type conn struct {
	*net.TCPConn
	conns  *Conns
	said   atomic.Bool
	reader reader
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	c.heard(n)
	return n, err
}

func (c *conn) heard(n int) {
	if n > 0 && !c.said.Load() {
		c.said.Store(true)
	}
}

func (c *conn) Close() error {
	c.conns.remove(c)
	return c.TCPConn.Close()
}
