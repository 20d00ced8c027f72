package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// linkRate is what a slow link carries from etcd, in bytes a second.
const linkRate = 4 << 20

// link is a way to an address, which can be slow.
type link struct {
	lis  net.Listener
	to   string
	slow atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
	done  sync.WaitGroup
}

func newLink(to string) (*link, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{lis: lis, to: to}
	l.done.Go(l.serve)
	return l, nil
}

func (l *link) addr() string { return l.lis.Addr().String() }

func (l *link) serve() {
	for {
		near, err := l.lis.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", l.to)
		if err != nil {
			near.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, near, far)
		l.mu.Unlock()
		l.done.Go(func() { carry(far, near, io.Copy) })
		l.done.Go(func() { carry(near, far, l.copy) })
	}
}

// carry copies until either end closes.
func carry(to, from net.Conn, copying func(io.Writer, io.Reader) (int64, error)) {
	defer to.Close()
	defer from.Close()
	_, _ = copying(to, from) // its end is the connection's
}

// copy copies at linkRate while the link is slow.
func (l *link) copy(to io.Writer, from io.Reader) (n int64, err error) {
	buf := make([]byte, 16<<10)
	for {
		k, err := from.Read(buf)
		if err != nil {
			return n, err
		}
		if _, err := to.Write(buf[:k]); err != nil {
			return n, err
		}
		n += int64(k)
		if l.slow.Load() {
			time.Sleep(time.Duration(k) * time.Second / linkRate)
		}
	}
}

func (l *link) close() {
	l.lis.Close()
	l.mu.Lock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.mu.Unlock()
	l.done.Wait()
}
