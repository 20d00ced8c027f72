package network

import (
	"context"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// Listen listens on a host and a port, such as "10.0.0.1:9000". Closing the
// listener frees the address and resets connections that were not accepted.
// Listen panics if addr is invalid.
func (n *Network) Listen(addr string) (net.Listener, error) {
	at := netip.MustParseAddrPort(addr)
	n.mu.Lock()
	defer n.mu.Unlock()

	if n.listeners[at] != nil {
		return nil, failed("listen", at, os.NewSyscallError("bind", syscall.EADDRINUSE))
	}

	l := &listener{network: n, at: at, wake: sync.NewCond(&n.mu)}
	n.listeners[at] = l

	return l, nil
}

func failed(op string, at netip.AddrPort, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Addr: net.TCPAddrFromAddrPort(at), Err: err}
}

// A listener is a net.Listener, guarded by the lock of its network.
type listener struct {
	network *Network
	at      netip.AddrPort
	wake    *sync.Cond
	backlog []*end
	closed  bool
}

func (l *listener) Accept() (net.Conn, error) {
	l.network.mu.Lock()
	defer l.network.mu.Unlock()

	for {
		if l.closed {
			return nil, failed("accept", l.at, net.ErrClosed)
		}

		if len(l.backlog) > 0 {
			e := l.backlog[0]
			l.backlog = l.backlog[1:]

			return e, nil
		}

		l.wake.Wait()
	}
}

func (l *listener) Close() error {
	n := l.network
	n.mu.Lock()
	defer n.mu.Unlock()

	if l.closed {
		return failed("close", l.at, net.ErrClosed)
	}

	l.closed = true
	delete(n.listeners, l.at)

	for _, e := range l.backlog {
		if e.connection.reset() {
			delete(n.connections, e.connection)
		}
	}

	l.backlog = nil
	l.wake.Broadcast()

	return nil
}

func (l *listener) Addr() net.Addr {
	return net.TCPAddrFromAddrPort(l.at)
}

// Dialer returns a function that dials from host, an IP address such as
// "10.0.0.2", with a new port for each connection.
func (n *Network) Dialer(
	host string,
) func(ctx context.Context, addr string) (net.Conn, error) {
	from := netip.MustParseAddr(host)

	return func(ctx context.Context, addr string) (net.Conn, error) {
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}

		e, err := n.dial(ctx, from, to)
		if err != nil {
			return nil, failed("dial", to, err)
		}

		return e, nil
	}
}

// dial waits for a handshake over the link, and connects.
func (n *Network) dial(
	ctx context.Context,
	from netip.Addr,
	to netip.AddrPort,
) (*end, error) {
	for travelled := false; ctx.Err() == nil; {
		n.mu.Lock()
		link := n.link(from.String(), to.Addr().String())
		changed := n.changed
		travels := link.Delay > 0 && !travelled

		if link.Cut || !link.Stalled && !travels {
			defer n.mu.Unlock()
			return n.connect(from, to, link)
		}

		n.mu.Unlock()

		var arrived <-chan time.Time
		if !link.Stalled {
			changed = nil
			arrived = time.After(2 * link.Delay)
		}

		select {
		case <-changed:
		case <-arrived:
			travelled = true
		case <-ctx.Done():
		}
	}

	return nil, ctx.Err()
}

// connect hands a new connection to the listener and returns its dialling end.
// n.mu is held.
func (n *Network) connect(from netip.Addr, to netip.AddrPort, link Link) (*end, error) {
	l := n.listeners[to]
	if link.Cut || l == nil {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}

	const first, ports = 32768, 28232 // Linux's ephemeral ports, on which nothing listens

	n.dialled[from]++
	port := first + n.dialled[from]%ports
	c := newConnection(n, netip.AddrPortFrom(from, uint16(port)), to, link)

	n.connections[c] = struct{}{}
	l.backlog = append(l.backlog, &c.ends[1])
	l.wake.Signal()

	return &c.ends[0], nil
}
