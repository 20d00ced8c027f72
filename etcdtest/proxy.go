package etcdtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// proxy forwards TCP connections from a fixed address to a changing upstream,
// and breaks them on demand.
type proxy struct {
	listener net.Listener
	done     sync.WaitGroup
	others   []*proxy // of the members that post here; set before there is an upstream

	mu       sync.Mutex
	upstream string        // "" for none
	cut      bool          // connections are reset when they arrive
	flowing  chan struct{} // closed while bytes flow, open while they are withheld
	paused   bool
	links    map[*link]struct{}
}

// link is a client connection and, once dialed, its upstream connection.
type link struct {
	ctx    context.Context // ends with the link
	cancel context.CancelFunc

	mu    sync.Mutex
	ended bool
	conns []net.Conn
}

// anyPort is the address of a proxy for which the system chooses the port.
const anyPort = "127.0.0.1:0"

func newProxy(addr string) (*proxy, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("etcdtest: listen on %s: %w", addr, err)
	}

	p := &proxy{
		listener: listener,
		flowing:  make(chan struct{}),
		links:    map[*link]struct{}{},
	}

	close(p.flowing)
	p.done.Go(p.accept)

	return p, nil
}

func (p *proxy) addr() string {
	return p.listener.Addr().String()
}

// setUpstream changes the upstream, "" for none, and resets all connections.
func (p *proxy) setUpstream(addr string) {
	p.mu.Lock()
	p.upstream = addr
	p.mu.Unlock()

	p.reset()
}

// setCut(true) resets all open connections, and each new connection until
// setCut(false).
func (p *proxy) setCut(cut bool) {
	p.mu.Lock()
	p.cut = cut
	p.mu.Unlock()

	if cut {
		p.reset()
	}
}

// setPaused(true) withholds every byte, and every end of a stream, until
// setPaused(false).
func (p *proxy) setPaused(paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()

	switch {
	case paused && !p.paused:
		p.flowing = make(chan struct{})
	case !paused && p.paused:
		close(p.flowing)
	}

	p.paused = paused
}

// close ends the proxy and waits for its goroutines.
func (p *proxy) close() {
	p.setCut(true)
	p.listener.Close()
	p.done.Wait()
}

// reset ends every link with a TCP reset.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()

	for l := range p.links {
		l.reset()
	}
}

func (p *proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return
		}

		if l := p.admit(conn); l != nil {
			p.done.Go(func() { p.serve(l, conn) })
		}
	}
}

// admit makes conn a link, or resets it if the proxy is cut or has no upstream.
func (p *proxy) admit(conn net.Conn) *link {
	p.mu.Lock()
	defer p.mu.Unlock()

	l := &link{}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.add(conn)

	if p.cut || p.upstream == "" {
		l.reset()
		return nil
	}

	p.links[l] = struct{}{}

	return l
}

func (p *proxy) serve(l *link, client net.Conn) {
	defer func() {
		p.mu.Lock()
		delete(p.links, l)
		p.mu.Unlock()

		l.end(false)
	}()

	if !p.flow(l) {
		return
	}

	p.mu.Lock()
	upstream := p.upstream
	p.mu.Unlock()

	var dialer net.Dialer
	server, err := dialer.DialContext(l.ctx, "tcp", upstream)
	if err != nil || !l.add(server) {
		return
	}

	var copies sync.WaitGroup
	copies.Go(func() { p.copy(l, server, client) })
	copies.Go(func() { p.copy(l, client, server) })
	copies.Wait()
}

// copy forwards bytes from src to dst, except while the proxy is paused. In the
// end it forwards the end of the stream.
func (p *proxy) copy(l *link, dst, src net.Conn) {
	buf := make([]byte, 32<<10)
	from := p

	for {
		n, err := src.Read(buf)

		if from == p { // no member is known to post on this connection
			from = p.poster(buf[:n])
		}

		if !p.flow(l) || !from.flow(l) {
			return
		}

		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				l.reset()
				return
			}
		}

		// Only src has ended its stream: dst may still send. If dst is closed,
		// CloseWrite and the copy in the other direction fail.
		if errors.Is(err, io.EOF) {
			if tcp, ok := dst.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}

			return
		}

		if err != nil {
			l.reset()
			return
		}
	}
}

// flow waits while the proxy is paused. It returns false if the link has ended.
func (p *proxy) flow(l *link) bool {
	p.mu.Lock()
	flowing := p.flowing
	p.mu.Unlock()

	select {
	case <-l.ctx.Done():
		return false
	case <-flowing:
		return true
	}
}

// poster returns the proxy of the member that sent data if data is a POST of
// raft messages. Otherwise it returns p. A member usually sends messages on a
// stream that the receiver has opened. Without such a stream it sends them by
// POST.
func (p *proxy) poster(data []byte) *proxy {
	if !bytes.HasPrefix(data, []byte("POST /raft")) {
		return p
	}

	for _, other := range p.others {
		if bytes.Contains(data, []byte("X-Peerurls: http://"+other.addr()+"\r\n")) {
			return other
		}
	}

	return p
}

// add adds a connection, which is closed with the link. If the link has ended,
// it closes conn and returns false.
func (l *link) add(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.ended {
		conn.Close()
		return false
	}

	l.conns = append(l.conns, conn)

	return true
}

func (l *link) reset() {
	l.end(true)
}

// end closes the link's connections, with a TCP reset if abort is set.
func (l *link) end(abort bool) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if l.ended {
		return
	}

	l.ended = true
	l.cancel()

	for _, conn := range l.conns {
		if tcp, ok := conn.(*net.TCPConn); ok && abort {
			_ = tcp.SetLinger(0) // if it fails, Close ends the connection without a reset
		}

		conn.Close()
	}
}
