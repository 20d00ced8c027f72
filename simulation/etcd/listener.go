package etcd

import (
	"net"
	"sync"
)

// listener is a listener that knows the connections it has accepted.
type listener struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &trackedConn{conn, l}
	l.mu.Lock()
	l.open[c] = struct{}{}
	l.mu.Unlock()
	return c, nil
}

// drop closes the connections that are open.
func (l *listener) drop() {
	l.mu.Lock()
	var open []net.Conn
	for c := range l.open {
		open = append(open, c)
	}
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
	delete(c.l.open, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}
