package network

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

const (
	server     = "10.0.0.1"
	client     = "10.0.0.2"
	serverAddr = "10.0.0.1:9000"
)

func listen(t testing.TB, n *Network, addr string) net.Listener {
	t.Helper()

	lis, err := n.Listen(addr)
	must.Succeed(t, err)
	t.Cleanup(func() { lis.Close() })

	return lis
}

// connect returns both ends of a connection from client to lis.
func connect(t testing.TB, n *Network, lis net.Listener) (dialled, accepted net.Conn) {
	t.Helper()

	dialled, err := n.Dialer(client)(t.Context(), lis.Addr().String())
	must.Succeed(t, err)
	accepted, err = lis.Accept()
	must.Succeed(t, err)

	t.Cleanup(func() {
		dialled.Close()
		accepted.Close()
	})

	return dialled, accepted
}

func write(t testing.TB, c net.Conn, text string) {
	t.Helper()

	if n, err := io.WriteString(c, text); n != len(text) || err != nil {
		t.Fatalf("Write(%q) = %d, %v, want success", text, n, err)
	}
}

// wantRead reads exactly text.
func wantRead(t testing.TB, c net.Conn, text string) {
	t.Helper()

	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("Read = %q, %v; want %q", got, err, text)
	}
}

func wantReadErr(t testing.TB, c net.Conn, want error) {
	t.Helper()

	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, want) {
		t.Fatalf("read: %d, %v; want %v", n, err, want)
	}
}

// wantNothing fails the test if anything arrives within d, even the end of the
// connection.
func wantNothing(t testing.TB, c net.Conn, d time.Duration) {
	t.Helper()

	must.Succeed(t, c.SetReadDeadline(time.Now().Add(d)))
	wantReadErr(t, c, os.ErrDeadlineExceeded)
	must.Succeed(t, c.SetReadDeadline(time.Time{}))
}

func wantElapsed(t testing.TB, since time.Time, want time.Duration) {
	t.Helper()

	if got := time.Since(since); got != want {
		t.Fatalf("took %v, want %v", got, want)
	}
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		lis := listen(t, n, serverAddr)
		a, b := connect(t, n, lis)
		write(t, a, "before ")
		n.Set(client, server, Link{Delay: time.Second})
		write(t, a, "in flight ")
		n.Set(client, server, Link{Stalled: true})
		write(t, a, "during")
		a.Close()
		wantRead(t, b, "before ")
		wantNothing(t, b, time.Hour)

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		_, err := n.Dialer(client)(ctx, serverAddr)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial over a stalled link: %v, want DeadlineExceeded", err)
		}

		ending := time.AfterFunc(time.Minute, func() {
			n.Set(client, server, Link{Delay: 2 * time.Second})
		})
		defer ending.Stop()

		start := time.Now()
		connect(t, n, lis)
		wantElapsed(t, start, time.Minute+4*time.Second)
		wantRead(t, b, "in flight during")
		wantReadErr(t, b, io.EOF)

		a, b = connect(t, n, lis)
		n.Set(client, server, Link{Delay: time.Second})
		start = time.Now()
		write(t, a, "x")
		time.Sleep(500 * time.Millisecond)
		n.Set(client, server, Link{Stalled: true})
		time.Sleep(time.Minute)
		n.Set(client, server, Link{Delay: time.Second})
		wantRead(t, b, "x")
		wantElapsed(t, start, time.Minute+1500*time.Millisecond)
	})
}

func TestStalledReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, listen(t, n, serverAddr))
		n.Set(client, server, Link{Stalled: true})
		n.Reset(client, server)
		wantNothing(t, a, time.Minute)
		wantNothing(t, b, time.Minute)
		n.Set(client, server, Link{})
		wantReadErr(t, a, syscall.ECONNRESET)
		wantReadErr(t, b, syscall.ECONNRESET)
	})
}

// A host that writes more than a connection buffers waits for the reader.
func TestBreaks(t *testing.T) {
	for name, fault := range map[string]struct {
		breaks        func(n *Network, a, b string)
		refuses, ends bool // refuses: dialling fails; ends: dialling works after Set
	}{
		"reset":             {(*Network).Reset, false, true},
		"reset from afar":   {func(n *Network, a, b string) { n.Reset(b, a) }, false, true},
		"crash of a client": {func(n *Network, a, _ string) { n.Crash(a) }, false, true},
		"crash of a server": {func(n *Network, _, b string) { n.Crash(b) }, false, true},
		"cut": {func(n *Network, a, b string) {
			n.Set(a, b, Link{Cut: true, Stalled: true, Delay: time.Hour})
		}, true, true},
		"removal of a client": {func(n *Network, a, _ string) { n.Remove(a) }, true, false},
	} {
		n := New()
		a, b := connect(t, n, listen(t, n, serverAddr))
		fault.breaks(n, "10.0.0.3", "10.0.0.4")
		write(t, a, "x")
		wantRead(t, b, "x")
		before := n.Connections(client, server)
		fault.breaks(n, client, server)
		wantReadErr(t, a, syscall.ECONNRESET)
		wantReadErr(t, b, syscall.ECONNRESET)

		if after := n.Connections(client, server); before != 1 || after != 0 {
			t.Errorf("%s: %d connections before and %d after, want 1 and 0", name, before, after)
		}

		dial := func() error {
			_, err := n.Dialer(client)(t.Context(), serverAddr)
			return err
		}
		if err := dial(); errors.Is(err, syscall.ECONNREFUSED) != fault.refuses {
			t.Errorf("%s: dial: %v, want ECONNREFUSED: %v", name, err, fault.refuses)
		}

		n.Set(client, server, Link{})

		if err := dial(); (err == nil) != fault.ends {
			t.Errorf("%s: dial after Set: %v, want success: %v", name, err, fault.ends)
		}
	}
}
