package connectetcd

import (
	"net"
	"net/http"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// stopsEarly is a listener that records whether its server closes starting connections when it closes the listener.
type stopsEarly struct {
	net.Listener
	server *httpServer
	closed chan bool
}

func (l stopsEarly) Close() error {
	l.closed <- l.server.stopping.Load()
	return l.Listener.Close()
}

// A server that stops closes its listener before the connections that are starting. Otherwise it would accept further ones, and reset them.
func TestGracefulStop_ClosesTheListenerFirst(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)
	s := &httpServer{http: new(http.Server)}
	closed := make(chan bool, 9)
	go func() { _ = s.Serve(stopsEarly{lis, s, closed}) }()
	answer, err := http.Head("http://" + lis.Addr().String())
	must.Succeed(t, err)
	must.Succeed(t, answer.Body.Close())
	s.GracefulStop()
	if <-closed {
		t.Error("starting connections were closed while the listener was open")
	}
}
