package network

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
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
	t.Cleanup(func() { dialled.Close(); accepted.Close() })
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

func wantWriteErr(t testing.TB, c net.Conn, want error) {
	t.Helper()
	if _, err := c.Write([]byte("x")); !errors.Is(err, want) {
		t.Fatalf("write: %v; want %v", err, want)
	}
}

// wantNothing fails the test if anything arrives within d, even the end of the connection.
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

func TestListen(t *testing.T) {
	n := New()
	lis := listen(t, n, serverAddr)
	if _, err := n.Listen(serverAddr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("second Listen on an address: %v, want EADDRINUSE", err)
	}
	for _, addr := range []string{":9000", "localhost:9000", "10.0.0.1"} {
		if _, err := n.Listen(addr); err == nil {
			t.Errorf("Listen(%q): got nil, want an error", addr)
		}
	}
	dialled, accepted := connect(t, n, lis)
	if got, want := accepted.RemoteAddr().String(), dialled.LocalAddr().String(); got != want {
		t.Errorf("remote address of the accepted end: %s, want %s", got, want)
	}
	if got := accepted.RemoteAddr().(*net.TCPAddr).IP.String(); got != client {
		t.Errorf("host of the accepted end: %s, want %s", got, client)
	}
	if got := dialled.RemoteAddr().String(); got != serverAddr {
		t.Errorf("remote address of the dialling end: %s, want %s", got, serverAddr)
	}

	waiting, err := n.Dialer(client)(t.Context(), serverAddr)
	must.Succeed(t, err)
	lis.Close()
	wantReadErr(t, waiting, syscall.ECONNRESET)
	if _, err := lis.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept on a closed listener: %v, want net.ErrClosed", err)
	}
	if _, err := n.Dialer(client)(t.Context(), serverAddr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial a closed listener: %v, want ECONNREFUSED", err)
	}
	write(t, dialled, "still here")
	wantRead(t, accepted, "still here")
	listen(t, n, serverAddr)
}

// TestBytes sends many bytes both ways, in pieces of all sizes, outside a bubble.
func TestBytes(t *testing.T) {
	n := New()
	a, b := connect(t, n, listen(t, n, serverAddr))
	random := rand.New(rand.NewPCG(1, 2))
	sent := make([]byte, 1<<20)
	for i := range sent {
		sent[i] = byte(random.Uint32())
	}
	errs := make(chan error)
	for _, c := range []net.Conn{a, b} {
		sizes := rand.New(rand.NewPCG(3, 4))
		go func() {
			for rest := sent; len(rest) > 0; {
				k := min(len(rest), sizes.IntN(100_000))
				if _, err := c.Write(rest[:k]); err != nil {
					errs <- err
					return
				}
				rest = rest[k:]
			}
			errs <- nil
		}()
		go func() {
			got := make([]byte, len(sent))
			_, err := io.ReadFull(c, got)
			if err == nil && !bytes.Equal(got, sent) {
				err = errors.New("other bytes arrived than were sent")
			}
			errs <- err
		}()
	}
	for range 4 {
		must.Succeed(t, <-errs)
	}
}

func TestWriterWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, listen(t, n, serverAddr))
		done := make(chan error, 1)
		go func() {
			_, err := a.Write(make([]byte, 2*window))
			done <- err
		}()
		for range 2 {
			synctest.Wait()
			if len(done) > 0 {
				t.Fatal("Write returned before the buffer was read, want it to wait")
			}
			if _, err := io.ReadFull(b, make([]byte, window/2)); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		must.Succeed(t, <-done)

		must.Succeed(t, a.SetWriteDeadline(time.Now().Add(time.Second)))
		if _, err := a.Write(make([]byte, window)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Write past the deadline: %v, want a timeout", err)
		}
		go func() {
			_, err := b.Write(make([]byte, 2*window))
			done <- err
		}()
		synctest.Wait()
		a.Close()
		if err := <-done; !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("Write during the close of the other side: %v, want EPIPE", err)
		}
	})
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, listen(t, n, serverAddr))
		start := time.Now()
		wantNothing(t, b, time.Minute)
		wantElapsed(t, start, time.Minute)

		moved := time.AfterFunc(time.Second, func() {
			if err := b.SetDeadline(time.Now().Add(time.Second)); err != nil {
				t.Error(err)
			}
		})
		defer moved.Stop()
		wantReadErr(t, b, os.ErrDeadlineExceeded)
		wantElapsed(t, start, time.Minute+2*time.Second)
		var timeout net.Error
		if _, err := b.Write(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("Write past the deadline: %v, want a timeout", err)
		}

		must.Succeed(t, b.SetDeadline(time.Time{}))
		write(t, a, "x")
		wantRead(t, b, "x")
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		a, b := connect(t, n, listen(t, n, serverAddr))
		closing := time.AfterFunc(time.Second, func() { a.Close() })
		defer closing.Stop()
		wantReadErr(t, a, net.ErrClosed)
		wantWriteErr(t, a, net.ErrClosed)
		if err := a.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("second Close: %v, want net.ErrClosed", err)
		}
		wantReadErr(t, b, io.EOF)
		wantWriteErr(t, b, syscall.EPIPE)

		a, b = connect(t, n, listen(t, n, server+":9001"))
		write(t, a, "last words")
		a.Close()
		wantRead(t, b, "last words")
		wantReadErr(t, b, io.EOF)
	})
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		n.Set(client, server, Link{Delay: time.Second})
		start := time.Now()
		a, b := connect(t, n, listen(t, n, serverAddr))
		wantElapsed(t, start, 2*time.Second)

		start = time.Now()
		write(t, a, "one ")
		time.Sleep(100 * time.Millisecond)
		write(t, a, "two ")
		n.Set(client, server, Link{Delay: 10 * time.Millisecond})
		write(t, a, "three ")
		n.Set(client, server, Link{})
		write(t, a, "four")
		a.Close()
		wantElapsed(t, start, 100*time.Millisecond)
		wantRead(t, b, "one ")
		wantElapsed(t, start, time.Second)
		wantRead(t, b, "two three four")
		wantReadErr(t, b, io.EOF)
		wantElapsed(t, start, 1100*time.Millisecond)
	})
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
		write(t, b, "nobody there")

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := n.Dialer(client)(ctx, serverAddr); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("dial over a stalled link: %v, want DeadlineExceeded", err)
		}
		ending := time.AfterFunc(time.Minute, func() { n.Set(client, server, Link{Delay: 2 * time.Second}) })
		defer ending.Stop()
		start := time.Now()
		connect(t, n, lis)
		wantElapsed(t, start, time.Minute+4*time.Second)
		wantRead(t, b, "in flight during")
		wantReadErr(t, b, io.EOF)
		wantWriteErr(t, b, syscall.EPIPE)

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

func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := New()
		lis := listen(t, n, serverAddr)
		a, b := connect(t, n, lis)
		write(t, a, "unread")
		cutting := time.AfterFunc(time.Second, func() { n.Set(client, server, Link{Cut: true, Stalled: true, Delay: time.Hour}) })
		defer cutting.Stop()
		wantReadErr(t, a, syscall.ECONNRESET)
		wantWriteErr(t, a, syscall.ECONNRESET)
		wantReadErr(t, b, syscall.ECONNRESET)
		_, err := n.Dialer(client)(t.Context(), serverAddr)
		var op *net.OpError
		if !errors.As(err, &op) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatalf("dial over a cut link: %v, want ECONNREFUSED", err)
		}
		n.Set(client, server, Link{})
		a, b = connect(t, n, lis)
		write(t, a, "again")
		wantRead(t, b, "again")
	})
}

func TestReset(t *testing.T) {
	n := New()
	lis := listen(t, n, serverAddr)
	for _, ends := range []struct{ others, these func() }{
		{func() { n.Reset(client, "10.0.0.3") }, func() { n.Reset(client, server) }},
		{func() { n.Reset("10.0.0.3", server) }, func() { n.Reset(server, client) }},
		{func() { n.Crash("10.0.0.3") }, func() { n.Crash(server) }},
		{func() { n.Crash("10.0.0.3") }, func() { n.Crash(client) }},
	} {
		a, b := connect(t, n, lis)
		ends.others()
		write(t, a, "x")
		wantRead(t, b, "x")
		ends.these()
		wantReadErr(t, a, syscall.ECONNRESET)
		wantWriteErr(t, b, syscall.ECONNRESET)
		if err := a.Close(); err != nil {
			t.Errorf("Close of a connection that was reset: %v, want nil", err)
		}
	}
}

func TestConnections(t *testing.T) {
	n := New()
	lis := listen(t, n, serverAddr)
	var open []net.Conn
	for range 3 {
		a, b := connect(t, n, lis)
		open = append(open, a, b)
	}
	count := func() []int {
		return []int{
			n.Connections(client, server), n.Connections(server, client), n.Connections(client, ""),
			n.Connections("", server), n.Connections("", ""), n.Connections("", client),
		}
	}
	for i, want := range []int{3, 2, 1, 0} {
		if got := count(); !slices.Equal(got, []int{want, 0, want, want, want, 0}) {
			t.Fatalf("Connections = %v, want %d", got, want)
		}
		if want > 0 {
			open[[]int{0, 3, 5}[i]].Close()
		}
	}
	for _, c := range open {
		c.Close()
	}
	connect(t, n, lis)
	n.Reset(client, server)
	if len(n.connections) > 0 {
		t.Errorf("the network keeps %d closed connections, want 0", len(n.connections))
	}
}

func TestRemove(t *testing.T) {
	n := New()
	lis := listen(t, n, serverAddr)
	a, b := connect(t, n, lis)
	n.Set(client, server, Link{Stalled: true})
	n.Remove(client)
	wantReadErr(t, a, syscall.ECONNRESET)
	wantReadErr(t, b, syscall.ECONNRESET)
	n.Set(server, client, Link{})
	if _, err := n.Dialer(client)(t.Context(), serverAddr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial from a removed host: %v, want ECONNREFUSED", err)
	}
	if _, err := n.Dialer("10.0.0.3")(t.Context(), serverAddr); err != nil {
		t.Errorf("dial from another host: %v, want success", err)
	}
}
