package etcd

import (
	"net"
	"slices"
	"sync"
)

// listener is a listener that knows the connections it has accepted.
type listener struct {
	net.Listener
	mu   sync.Mutex
	open []*trackedConn
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{conn, l}
	l.mu.Lock()
	l.open = append(l.open, c)
	l.mu.Unlock()
	return c, nil
}

// drop closes the connections that are open.
func (l *listener) drop() {
	l.mu.Lock()
	open := slices.Clone(l.open)
	l.mu.Unlock()
	for _, c := range open {
		// The server reports it as the end of the connection.
		_ = c.Close()
	}
}

type trackedConn struct {
	net.Conn
	l *listener
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.l.mu.Lock()
	c.l.open = slices.DeleteFunc(c.l.open, func(other *trackedConn) bool { return other == c })
	c.l.mu.Unlock()
	return c.Conn.Close()
}
