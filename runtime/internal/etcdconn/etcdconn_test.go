package etcdconn

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/porttest"
)

const soon = 30 * time.Second

// A connection that is refused has a cause until it is up (K11).
func TestConnKnowsTheCause(t *testing.T) {
	addr := porttest.Refusing(t)
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	must.Succeed(t, err)

	defer conn.Close()

	conn.Connect()
	back := make(chan bool, 10)
	c := New(conn, Client{Endpoints: func() []string {
		return []string{addr}
	}, Logger: slog.New(slog.DiscardHandler), Changed: func(is bool) { back <- is }})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	ended := make(chan struct{})
	go func() {
		defer close(ended)

		c.Run(ctx)
	}()

	for c.connState().Cause == nil && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}

	text := fmt.Sprint(c.connState().Cause)
	if !strings.HasPrefix(text, "connection error: ") ||
		!strings.Contains(text, "connection refused") {
		t.Errorf("the cause is %q, want a connection error that says that it was refused", text)
	}

	lis, err := net.Listen("tcp", addr)
	must.Succeed(t, err)
	server := grpc.NewServer()
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()

	for is := false; !is; {
		select {
		case is = <-back:
		case <-ctx.Done():
			t.Fatal("Changed was not called once the connection was up")
		}
	}

	if err := c.connState().Cause; err != nil {
		t.Errorf("the cause of a connection that is up is %v, want nil", err)
	}

	cancel()
	<-ended
	server.Stop()

	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestWithoutAConnection(t *testing.T) {
	c := New(nil, Client{Endpoints: func() []string { return []string{"a:1"} }})
	c.Run(context.Background())

	if err := c.connState().Cause; err != nil {
		t.Errorf("the cause without a connection = %v, want nil", err)
	}

	err := c.Why(context.DeadlineExceeded)
	if err == nil || !strings.Contains(err.Error(), `etcd ["a:1"] does not answer`) {
		t.Errorf("Why of a call without an answer = %v, want the endpoints that do not answer", err)
	}
}
