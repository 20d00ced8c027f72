// Package listener remembers the connections of a TCP listener, so that a server that stops need not wait for those on which
// nobody says anything: neither stop of gRPC's ends them before they time out, and that of net/http takes them for busy.
package listener

import (
	"net"
	"runtime"
	"sync"
	"weak"
)

// Conns are the open connections of a listener. What serves them gets them as they are: gRPC and others do more for a
// *net.TCPConn than for what wraps one.
type Conns struct {
	mu     sync.Mutex
	open   map[weak.Pointer[net.TCPConn]]struct{} // and those that were closed a short while ago
	silent map[*net.TCPConn]struct{}
	closed bool // to new ones
}

// Watch returns the listener to serve on in place of lis, and its connections. It looks into a *net.TCPListener alone:
// what serves on another may want to see the types of its connections, as net/http does those of crypto/tls.
func Watch(lis net.Listener) (net.Listener, *Conns) {
	c := &Conns{open: make(map[weak.Pointer[net.TCPConn]]struct{}), silent: make(map[*net.TCPConn]struct{})}
	if tcp, ok := lis.(*net.TCPListener); ok {
		lis = &listener{tcp, c}
	}
	return lis, c
}

// CloseSilent closes the connections on which nothing has come in, and new ones from then on.
func (c *Conns) CloseSilent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.silent {
		_ = conn.Close() // an error: it is closed by now
	}
}

// Close closes all.
func (c *Conns) Close() {
	c.CloseSilent()
	c.mu.Lock()
	defer c.mu.Unlock()
	for open := range c.open {
		if conn := open.Value(); conn != nil {
			_ = conn.Close() // as above
		}
	}
}

// add takes in a new connection, which is silent until something comes in.
func (c *Conns) add(conn *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := weak.Make(conn)
	c.open[open], c.silent[conn] = struct{}{}, struct{}{}
	runtime.AddCleanup(conn, c.forget, open)
	if c.closed {
		_ = conn.Close() // who serves it will see
	}
}

func (c *Conns) forget(open weak.Pointer[net.TCPConn]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, open)
}

// spoke takes in that something has come in on a connection, or its end.
func (c *Conns) spoke(conn *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.silent, conn)
}

// listen waits until something comes in on a connection, or its end. Others who read from it wait meanwhile, so
// that nothing is missed: they must not begin before began is closed.
func (c *Conns) listen(conn *net.TCPConn, began chan<- struct{}) {
	defer c.spoke(conn)
	begin := sync.OnceFunc(func() { close(began) })
	defer begin()
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	asked := false
	_ = raw.Read(func(fd uintptr) bool { // an error: it is closed, or too late for who reads
		begin()
		again := asked
		asked = true
		if !readable(fd, again) {
			return false
		}
		c.spoke(conn) // before others read what has come in
		return true
	})
}

type listener struct {
	*net.TCPListener
	conns *Conns
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	l.conns.add(conn)
	began := make(chan struct{})
	go l.conns.listen(conn, began) // ends with the silence or the connection
	<-began
	return conn, nil
}
