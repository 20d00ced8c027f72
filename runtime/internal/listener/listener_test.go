package listener

import (
	"errors"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc/mem"
)

// A connection that has said something outlives the silent one, whichever way it is read.
func TestConns(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	lis, conns := Watch(tcp)
	defer lis.Close()
	accept := func() (client, server net.Conn) {
		client, err := net.Dial("tcp", lis.Addr().String())
		must(t, err)
		t.Cleanup(func() { client.Close() })
		server, err = lis.Accept()
		must(t, err)
		return client, server
	}
	ended := func(c net.Conn) bool {
		_, err := c.Read(make([]byte, 1))
		return errors.Is(err, net.ErrClosed)
	}
	_, silent := accept()
	plain, byRead := accept()
	ready, byReady := accept()
	for _, c := range []net.Conn{plain, ready} {
		_, err := c.Write([]byte("ab"))
		must(t, err)
	}
	_, err = byRead.Read(make([]byte, 1))
	must(t, err)
	read := onReady(byReady)
	if text, err := read(); text != "ab" || err != nil {
		t.Errorf("read %q, %v", text, err)
	}
	conns.CloseSilent()
	_, late := accept()
	if !ended(silent) || !ended(late) || ended(byRead) {
		t.Error("want the silent one closed, and the one that comes late, and no other")
	}
	must(t, ready.Close())
	if text, err := read(); text != "" || !errors.Is(err, io.EOF) {
		t.Errorf("read %q, %v after its end", text, err)
	}
	conns.Close()
	byReady.Close()
	if !ended(byRead) || len(conns.open) != 3 {
		t.Errorf("%d are open, want those that nobody has closed", len(conns.open))
	}
}

// onReady reads as gRPC does, where the connection lets it.
func onReady(c net.Conn) func() (string, error) {
	const size = 8
	r, ok := c.(interface {
		ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error)
	})
	return func() (string, error) {
		if !ok {
			p := make([]byte, size)
			n, err := c.Read(p)
			return string(p[:n]), err
		}
		p, n, err := r.ReadOnReady(size, mem.NopBufferPool{})
		if p == nil {
			return "", err
		}
		return string((*p)[:n]), err
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
