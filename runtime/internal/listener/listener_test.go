package listener

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// CloseSilent closes connections without incoming data, and no others. The
// server gets connections of package net.
func TestConns(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)

	lis, conns := Watch(tcp)
	defer lis.Close()

	accept := func() (client net.Conn, server *net.TCPConn) { return accept(t, lis) }
	ended := func(c net.Conn) bool {
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, net.ErrClosed)
	}

	known := func() int {
		conns.mu.Lock()
		defer conns.mu.Unlock()

		return len(conns.silent)
	}

	_, silent := accept()
	client, spoken := accept()
	_, err = client.Write([]byte("ab"))
	must.Succeed(t, err)

	if ended(spoken) {
		t.Error("reading incoming data failed")
	}

	late, timely := accept()
	must.Succeed(t, timely.SetReadDeadline(time.Now()))

	if _, err := timely.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a read after its deadline returned %v, want os.ErrDeadlineExceeded", err)
	}

	must.Succeed(t, late.Close())
	conns.CloseSilent()

	_, last := accept()
	if !ended(silent) || !ended(last) || ended(spoken) {
		t.Error("after CloseSilent a connection without data is open, or one with data is closed")
	}

	conns.Close()

	if !ended(spoken) || !ended(timely) {
		t.Error("a connection is open after Close")
	}

	for known() > 0 {
		runtime.GC() // all connections are closed and unused
	}
}

// Close of a connection does not block while its first data comes in.
func TestClose_WhileDataComesIn(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must.Succeed(t, err)

	for range 100 {
		lis, conns := Watch(tcp)
		var writers sync.WaitGroup
		for range 8 {
			client, _ := accept(t, lis)

			// fails if the connection is closed first
			writers.Go(func() { _, _ = client.Write([]byte("a")) })
		}

		conns.CloseSilent()
		conns.Close()
		writers.Wait()
	}

	must.Succeed(t, tcp.Close())
}

func accept(t *testing.T, lis net.Listener) (client net.Conn, server *net.TCPConn) {
	t.Helper()

	client, err := net.Dial("tcp", lis.Addr().String())
	must.Succeed(t, err)
	t.Cleanup(func() { client.Close() })

	accepted, err := lis.Accept()
	must.Succeed(t, err)

	return client, accepted.(*net.TCPConn)
}
