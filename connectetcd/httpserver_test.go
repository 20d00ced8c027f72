package connectetcd

import (
	"net"
	"net/http"
	"sync/atomic"
	"testing"
)

// watchedListener accepts connections that record whether they are closed before the listener is.
type watchedListener struct {
	net.Listener
	closed, early atomic.Bool
}

func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &watchedConn{conn, l}, err
}

func (l *watchedListener) Close() error {
	l.closed.Store(true)
	return l.Listener.Close()
}

type watchedConn struct {
	net.Conn
	lis *watchedListener
}

func (c *watchedConn) Close() error {
	if !c.lis.closed.Load() {
		c.lis.early.Store(true)
	}
	return c.Conn.Close()
}

// A server that stops closes its listener before the connections that are starting. Otherwise it would accept further ones, and reset them.
func TestGracefulStop_ClosesTheListenerFirst(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis, started := &watchedListener{Listener: tcp}, make(chan struct{}, 1)
	s := &httpServer{http: &http.Server{ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			started <- struct{}{}
		}
	}}}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	conn, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	<-started
	s.GracefulStop()
	<-served
	if lis.early.Load() {
		t.Error("a connection was closed while the listener was open")
	}
}
