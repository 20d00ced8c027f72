package etcdtest

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// echo starts a server that sends back all that it receives, and then ends the stream.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(conn, conn) // an error means that the test broke the connection
			conn.Close()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return listener.Addr().String()
}

func proxied(t *testing.T) (*proxy, net.Conn) {
	t.Helper()
	p, err := newProxy(anyPort)
	must(t, err)
	p.setUpstream(echo(t))
	t.Cleanup(p.close)
	return p, dial(t, p)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", p.addr())
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

func say(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func hear(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("received %q, %v; want %q", got, err, want)
	}
}

func TestProxy_CutResetsConnections(t *testing.T) {
	p, conn := proxied(t)
	say(t, conn, "hello")
	hear(t, conn, "hello")

	p.setCut(true)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection from before the cut: %v, want a reset", err)
	}
	during, err := net.Dial("tcp", p.addr()) // the reset may arrive before Dial returns
	if err == nil {
		defer during.Close()
		_, err = during.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection during the cut: %v, want a reset", err)
	}

	p.setCut(false)
	conn = dial(t, p)
	say(t, conn, "again")
	hear(t, conn, "again")
}

func TestProxy_PauseWithholdsBytes(t *testing.T) {
	p, before := proxied(t)
	say(t, before, "hello")
	hear(t, before, "hello")

	p.setPaused(true)
	p.setPaused(true)
	during := dial(t, p)
	for _, conn := range []net.Conn{before, during} {
		say(t, conn, "held")
		hearNothing(t, conn)
	}

	p.setPaused(false)
	hear(t, before, "held")
	before.Close() // the echo serves one connection at a time
	hear(t, during, "held")
}

func hearNothing(t *testing.T, conn net.Conn) {
	t.Helper()
	must(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	if n, err := conn.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v during a pause; want a timeout", n, err)
	}
}
