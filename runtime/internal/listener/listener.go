// Package listener tracks the connections of a TCP listener, so that a stopping
// server need not wait for connections without incoming data. gRPC's Stop and
// GracefulStop would wait until such connections time out, and net/http treats
// them as busy.
package listener

import (
	"maps"
	"net"
	"runtime"
	"sync"
	"weak"
)

// Conns are the open connections of a listener. They are not wrapped, because
// gRPC and other libraries use more features of a *net.TCPConn.
type Conns struct {
	mu sync.Mutex

	// for each connection, whether no data has come in; a closed connection
	// stays until it is garbage-collected
	silent map[weak.Pointer[net.TCPConn]]bool

	closed bool // new connections are closed at once
}

// Watch returns the listener to serve on in place of lis, and its connections.
// It tracks only a *net.TCPListener, because a server may need the connection
// types of other listeners, as net/http needs those of crypto/tls.
func Watch(lis net.Listener) (net.Listener, *Conns) {
	c := &Conns{silent: make(map[weak.Pointer[net.TCPConn]]bool)}
	if tcp, ok := lis.(*net.TCPListener); ok {
		lis = &listener{tcp, c}
	}

	return lis, c
}

// CloseSilent closes the connections without incoming data, and from then on
// each new connection.
func (c *Conns) CloseSilent() {
	c.close(false)
}

// Close closes all connections, and from then on each new connection.
func (c *Conns) Close() {
	c.close(true)
}

func (c *Conns) close(all bool) {
	c.mu.Lock()
	c.closed = true
	known := maps.Clone(c.silent)
	c.mu.Unlock() // Close waits for a reader in awaitData, which takes mu

	for pointer, silent := range known {
		if conn := pointer.Value(); conn != nil && (all || silent) {
			_ = conn.Close() // fails only if the connection is closed already
		}
	}
}

// add adds a new connection.
func (c *Conns) add(conn *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()

	pointer := weak.Make(conn)
	c.silent[pointer] = true
	runtime.AddCleanup(conn, c.forget, pointer)

	if c.closed {
		_ = conn.Close() // the server notices
	}
}

func (c *Conns) forget(pointer weak.Pointer[net.TCPConn]) {
	c.mu.Lock()
	defer c.mu.Unlock()

	delete(c.silent, pointer)
}

// onData records that data has come in on a connection, or that the
// connection has ended.
func (c *Conns) onData(conn *net.TCPConn) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.silent[weak.Make(conn)] = false
}

// awaitData waits for the first data on a connection, or for its end. It closes
// began once it waits. Other readers must not begin earlier, and block until
// awaitData returns.
func (c *Conns) awaitData(conn *net.TCPConn, began chan<- struct{}) {
	defer c.onData(conn)

	begin := sync.OnceFunc(func() { close(began) })
	defer begin()

	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}

	again := false
	read := func(fd uintptr) bool {
		begin()
		done := readable(fd, again)
		again = true

		if done {
			c.onData(conn) // before other readers get the data
		}

		return done
	}

	_ = raw.Read(read) // fails if the connection is closed, or its deadline has passed
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
	go l.conns.awaitData(conn, began) // ends with the first data or the connection
	<-began

	return conn, nil
}
