package main

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// linkRate is what a slow link carries from where it leads, in bytes a second.
const linkRate = 4 << 20

// link is a way to an address, which can be slow.
type link struct {
	lis  net.Listener
	slow atomic.Bool
}

// newLink returns a way to an address. Its connections are among those that are held.
func (t *traps) newLink(to string) (*link, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{lis: lis}
	t.done.Go(func() {
		t.accept(lis, func(near net.Conn) {
			far, err := net.Dial("tcp", to)
			if err != nil {
				return
			}
			go func() {
				defer far.Close()
				_, _ = io.Copy(far, near) // ends with either connection
			}()
			l.carry(near, far)
		})
	})
	return l, nil
}

// carry copies, at linkRate while the link is slow, until either end closes.
func (l *link) carry(to, from net.Conn) {
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		if l.slow.Load() {
			time.Sleep(time.Duration(n) * time.Second / linkRate)
		}
	}
}
