package network

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// connection is a pair of ends. Code that needs the locks of the network and of
// the connection must take the network's first.
type connection struct {
	network  *Network
	from, to string // the hosts

	mu       sync.Mutex
	link     Link
	broken   bool // the connection was reset
	resetDue bool // a reset is due when the stall ends
	ends     [2]end
}

// An end is one side of a connection, guarded by the lock of the connection.
type end struct {
	connection    *connection
	peer          *end
	local, remote *net.TCPAddr

	closed   bool       // this side has closed the connection
	peerGone bool       // the close of the other side has arrived
	in       stream     // bytes for this end
	wake     *sync.Cond // for readers of in, and for writers at the other end

	readDeadline, writeDeadline time.Time
}

func newConnection(n *Network, from, to netip.AddrPort, link Link) *connection {
	c := &connection{
		network: n,
		from:    from.Addr().String(),
		to:      to.Addr().String(),
		link:    link,
	}

	addrs := [2]*net.TCPAddr{net.TCPAddrFromAddrPort(from), net.TCPAddrFromAddrPort(to)}
	for i := range c.ends {
		c.ends[i] = end{
			connection: c,
			peer:       &c.ends[1-i],
			local:      addrs[i],
			remote:     addrs[1-i],
			wake:       sync.NewCond(&c.mu),
		}
	}

	return c
}

// setLink applies the state of a link to the connection, and reports whether
// that ended the connection.
func (c *connection) setLink(l Link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	resumed := c.link.Stalled && !l.Stalled
	c.link = l

	if l.Cut || c.resetDue && resumed {
		c.breakOff()
		return true
	}

	if resumed {
		c.ends[0].resume()
		c.ends[1].resume()
	}

	return false
}

// reset ends the connection, at once or when its stall ends, and reports
// whether it has ended.
func (c *connection) reset() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	if c.link.Stalled {
		c.resetDue = true
		return false
	}

	c.breakOff()

	return true
}

// breakOff drops all unread bytes and fails both ends. c.mu is held.
func (c *connection) breakOff() {
	c.broken = true

	for i := range c.ends {
		c.ends[i].in = stream{}
	}

	c.wakeAll()
}

// open reports whether neither side has closed the connection.
func (c *connection) open() bool {
	c.mu.Lock()
	defer c.mu.Unlock()

	return !c.broken && !c.ends[0].closed && !c.ends[1].closed
}

// wakeAll wakes all goroutines that wait at either end. c.mu is held.
func (c *connection) wakeAll() {
	for i := range c.ends {
		c.ends[i].wake.Broadcast()
	}
}

// after calls f after a time, with c.mu held.
func (c *connection) after(wait time.Duration, f func()) {
	time.AfterFunc(wait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()

		f()
	})
}

func (e *end) Read(b []byte) (int, error) {
	c := e.connection
	c.mu.Lock()
	defer c.mu.Unlock()

	for {
		switch {
		case e.closed:
			return 0, e.failed("read", net.ErrClosed)
		case passed(e.readDeadline):
			return 0, e.failed("read", os.ErrDeadlineExceeded)
		case c.broken:
			return 0, e.failed("read", os.NewSyscallError("read", syscall.ECONNRESET))
		case len(b) == 0:
			return 0, nil

		case e.in.arrived > 0:
			if e.in.buffer.Len() == window { // writers may wait
				e.wake.Broadcast()
			}

			n := copy(b, e.in.buffer.Next(min(len(b), e.in.arrived)))
			e.in.arrived -= n

			return n, nil

		case e.peerGone:
			return 0, io.EOF
		}

		e.wake.Wait()
	}
}

// Write waits while the buffer is full. Concurrent writes may be mixed.
func (e *end) Write(b []byte) (int, error) {
	c := e.connection
	c.mu.Lock()
	defer c.mu.Unlock()

	for written := 0; ; e.peer.wake.Wait() {
		switch {
		case e.closed:
			return written, e.failed("write", net.ErrClosed)
		case passed(e.writeDeadline):
			return written, e.failed("write", os.ErrDeadlineExceeded)
		case c.broken:
			return written, e.failed("write",
				os.NewSyscallError("write", syscall.ECONNRESET))
		case e.peerGone:
			return written, e.failed("write", os.NewSyscallError("write", syscall.EPIPE))
		}

		if n := e.peer.in.write(b[written:]); n > 0 {
			e.peer.incoming(segment{bytes: n})
			written += n
		}

		if written == len(b) {
			return written, nil
		}
	}
}

// Close lets the other side read the bytes already written, and then EOF.
func (e *end) Close() error {
	c := e.connection

	c.network.mu.Lock()
	defer c.network.mu.Unlock()

	c.mu.Lock()
	defer c.mu.Unlock()

	if e.closed {
		return e.failed("close", net.ErrClosed)
	}

	e.closed = true

	if e.peer.closed || c.broken {
		e.in = stream{}
		e.peer.in = stream{}
		delete(c.network.connections, c)
	} else {
		e.peer.incoming(segment{last: true})
	}

	c.wakeAll()

	return nil
}

// incoming sends s to this end, behind the earlier segments, after the delay of
// the link. The connection's lock is held.
func (e *end) incoming(s segment) {
	s.at = time.Now().Add(e.connection.link.Delay)
	if n := len(e.in.flight); n > 0 && s.at.Before(e.in.flight[n-1].at) {
		s.at = e.in.flight[n-1].at
	}

	e.in.flight = append(e.in.flight, s)
	e.arriveAt(s.at)
}

// resume delays all segments in flight once more, after a stall. The
// connection's lock is held.
func (e *end) resume() {
	at := time.Now().Add(e.connection.link.Delay)
	for i := range e.in.flight {
		e.in.flight[i].at = at
	}

	e.arriveAt(at)
}

// arriveAt makes segments readable at the time at which they are due. The
// connection's lock is held.
func (e *end) arriveAt(at time.Time) {
	if wait := time.Until(at); wait > 0 {
		e.connection.after(wait, e.arrive)
	} else {
		e.arrive()
	}
}

// arrive makes the segments that are due readable, unless the link is stalled.
// The connection's lock is held.
func (e *end) arrive() {
	if e.connection.link.Stalled {
		return
	}

	now := time.Now()
	for len(e.in.flight) > 0 && !e.in.flight[0].at.After(now) {
		s := e.in.flight[0]
		e.in.flight = e.in.flight[1:]
		e.in.arrived += s.bytes

		if s.last {
			e.peerGone = true

			// wakes writers at this end, whose bytes have no reader
			e.peer.wake.Broadcast()
		}

		e.wake.Broadcast()
	}
}

func (e *end) LocalAddr() net.Addr {
	return e.local
}

func (e *end) RemoteAddr() net.Addr {
	return e.remote
}

func (e *end) SetDeadline(t time.Time) error {
	return e.setDeadlines("set deadline", t, &e.readDeadline, &e.writeDeadline)
}

func (e *end) SetReadDeadline(t time.Time) error {
	return e.setDeadlines("set read deadline", t, &e.readDeadline)
}

func (e *end) SetWriteDeadline(t time.Time) error {
	return e.setDeadlines("set write deadline", t, &e.writeDeadline)
}

func (e *end) setDeadlines(op string, t time.Time, deadlines ...*time.Time) error {
	c := e.connection
	c.mu.Lock()
	defer c.mu.Unlock()

	if e.closed {
		return e.failed(op, net.ErrClosed)
	}

	for _, d := range deadlines {
		*d = t
	}

	if wait := time.Until(t); wait > 0 {
		c.after(wait, c.wakeAll)
	}

	c.wakeAll()

	return nil
}

func (e *end) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: e.local, Addr: e.remote, Err: err}
}

// passed reports whether a deadline has passed. The zero time means that there
// is no deadline.
func passed(deadline time.Time) bool {
	return !deadline.IsZero() && !time.Now().Before(deadline)
}

// window is the number of bytes in flight or unread that one direction can
// buffer.
const window = 64 << 10

// A stream holds the bytes sent to one end of a connection. The bytes that have
// arrived come first.
type stream struct {
	buffer  bytes.Buffer
	arrived int
	flight  []segment // segments that have not arrived, in order
}

// A segment is a run of bytes sent at once.
type segment struct {
	bytes int
	last  bool      // the segment is the close of the connection
	at    time.Time // the time of arrival, unless the link is stalled then
}

// write puts the bytes of b for which there is room into the buffer, and
// returns their number.
func (s *stream) write(b []byte) int {
	n, _ := s.buffer.Write(b[:min(len(b), window-s.buffer.Len())]) // Write never fails
	return n
}
