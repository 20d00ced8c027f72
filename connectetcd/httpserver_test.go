package connectetcd

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// A server that stops serves a connection that is starting, and tells it to leave, as it tells others.
func TestGracefulStop_ServesStartingConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(1 << 16)
		var protocols http.Protocols
		protocols.SetUnencryptedHTTP2(true)
		slow := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(startingTime) })
		s := &httpServer{http: &http.Server{Protocols: &protocols, Handler: slow}}
		go func() { _ = s.Serve(lis) }()
		conn, err := lis.Dial()
		must.Succeed(t, err)
		synctest.Wait()
		stopped := make(chan struct{})
		go func() { s.GracefulStop(); close(stopped) }()
		time.Sleep(startingTime - 1) // a slow network
		client := http.Client{Transport: &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) {
			defer func() { conn, err = lis.Dial() }()
			return conn, err
		}}}
		for _, left := range []bool{false, true} {
			answer, err := client.Head("http://any")
			if err == nil {
				must.Succeed(t, answer.Body.Close())
			}
			if left != (err != nil) {
				t.Errorf("a call on a connection that was starting returned %v, want an error: %v", err, left)
			}
			synctest.Wait() // the client has read that it is to leave
		}
		<-stopped
	})
}

// A server that stops waits for the handlers of calls, even if their contexts and connections have ended. Then it runs no other.
func TestGracefulStop_WaitsForHandlers(t *testing.T) {
	s, stopped := &Server{routes: http.NewServeMux(), below: &httpServer{http: new(http.Server)}}, make(chan struct{})
	s.handle("/", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		go func() { s.below.GracefulStop(); close(stopped) }()
		for s.below.calls.TryRLock() { // until GracefulStop waits
			s.below.calls.RUnlock()
			select {
			case <-stopped:
				t.Error("GracefulStop returned before the handler of a call")
				return
			default:
			}
		}
	}))
	ended, end := context.WithCancel(t.Context())
	end()
	call := httptest.NewRequestWithContext(ended, http.MethodPost, "/", nil)
	s.routes.ServeHTTP(nil, call)
	if s.below.calls.TryRLock() {
		t.Fatal("the handler of a call whose context had ended did not run, want it to run until GracefulStop waits")
	}
	<-stopped
	w := httptest.NewRecorder()
	if s.routes.ServeHTTP(w, call); w.Code != http.StatusServiceUnavailable { // the handler would stop the server again
		t.Errorf("a call after GracefulStop: status %d, want 503", w.Code)
	}
}
