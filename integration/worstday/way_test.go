package worstday

import (
	"context"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// way carries the bytes between the processes and etcd, on a line to each member. The judge's bytes do not go over it.
type way struct{ lines []*line }

// line is the way to a member.
type line struct {
	addr string

	mu      sync.Mutex
	delay   time.Duration // of answers
	broken  bool          // connections are reset
	refused bool          // connections are refused
	admits  chan struct{} // closed while new connections get through
	asks    chan struct{} // closed while requests get through
	answers chan struct{} // closed while answers get through
	conns   map[*conn]struct{}
}

func newWay(endpoints []string) *way {
	open := make(chan struct{})
	close(open)
	w := &way{}
	for _, e := range endpoints {
		w.lines = append(w.lines, &line{addr: strings.TrimPrefix(e, "http://"), admits: open, asks: open, answers: open, conns: make(map[*conn]struct{})})
	}
	return w
}

// all does the same on the lines to all members.
func (w *way) all(do func(*line)) {
	for _, l := range w.lines {
		do(l)
	}
}

func (l *line) slow(d time.Duration) { l.mu.Lock(); defer l.mu.Unlock(); l.delay = d }

// reset ends all connections.
func (l *line) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.end(syscall.ECONNRESET)
	}
}

// cut(true) resets all connections, and each new one until cut(false).
func (l *line) cut(cut bool) {
	l.mu.Lock()
	l.broken = cut
	l.mu.Unlock()
	if cut {
		l.reset()
	}
}

// refuse(true) resets all connections, and refuses new ones until refuse(false).
func (l *line) refuse(refuse bool) {
	l.mu.Lock()
	l.refused = refuse
	l.mu.Unlock()
	if refuse {
		l.reset()
	}
}

// admit(false) lets new connections wait until admit(true).
func (l *line) admit(admit bool) { l.set(&l.admits, admit) }

// swallow withholds requests, answers or both until swallow(false, false).
func (l *line) swallow(asks, answers bool) {
	l.set(&l.asks, !asks)
	l.set(&l.answers, !answers)
}

// set opens or closes a gate. A gate is open if its channel is closed.
func (l *line) set(gate *chan struct{}, open bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	isOpen := false
	select {
	case <-*gate:
		isOpen = true
	default:
	}
	switch {
	case open && !isOpen:
		close(*gate)
	case !open && isOpen:
		*gate = make(chan struct{})
	}
}

func (l *line) get(gate *chan struct{}) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return *gate
}

func (w *way) dial(ctx context.Context, addr string) (net.Conn, error) {
	for _, l := range w.lines {
		if l.addr == strings.TrimPrefix(addr, "http://") {
			return l.dial(ctx)
		}
	}
	return nil, &net.AddrError{Err: "no member", Addr: addr}
}

func (l *line) dial(ctx context.Context) (net.Conn, error) {
	select {
	case <-l.get(&l.admits):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	inner, err := new(net.Dialer).DialContext(ctx, "tcp", l.addr)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, line: l, ended: make(chan struct{}), in: make(chan chunk, 1024), out: make(chan chunk, 1024)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused {
		_ = inner.Close()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	l.conns[c] = struct{}{}
	go c.read()
	go c.write()
	if l.broken {
		c.end(syscall.ECONNRESET)
	}
	return c, nil
}

// chunk is bytes that arrive at a time, or an error.
type chunk struct {
	data []byte
	due  time.Time
	err  error
}

// conn is a connection whose bytes the line delays or withholds.
type conn struct {
	net.Conn
	line    *line
	in, out chan chunk
	rest    []byte // of the last chunk
	once    sync.Once
	ended   chan struct{}
	err     error // valid after ended
}

// end closes the connection. Later reads and writes fail with err.
func (c *conn) end(err error) {
	c.once.Do(func() {
		c.err = err
		close(c.ended)
		_ = c.Conn.Close()
	})
}

func (c *conn) Close() error {
	c.line.mu.Lock()
	delete(c.line.conns, c)
	c.line.mu.Unlock()
	c.end(net.ErrClosed)
	return nil
}

// read receives the member's bytes.
func (c *conn) read() {
	for {
		buf := make([]byte, 16<<10)
		n, err := c.Conn.Read(buf)
		c.line.mu.Lock()
		k := chunk{buf[:n], time.Now().Add(c.line.delay), err}
		c.line.mu.Unlock()
		select {
		case c.in <- k:
		case <-c.ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// write sends the client's bytes.
func (c *conn) write() {
	for {
		select {
		case k := <-c.out:
			if !c.wait(c.line.get(&c.line.asks)) {
				return
			}
			if _, err := c.Conn.Write(k.data); err != nil {
				c.end(err)
				return
			}
		case <-c.ended:
			return
		}
	}
}

func (c *conn) wait(gate <-chan struct{}) bool {
	select {
	case <-gate:
		return true
	case <-c.ended:
		return false
	}
}

func (c *conn) Read(p []byte) (int, error) {
	if len(c.rest) == 0 {
		select {
		case k := <-c.in:
			if d := time.Until(k.due); d > 0 {
				late := time.NewTimer(d)
				defer late.Stop()
				select {
				case <-late.C:
				case <-c.ended:
					return 0, c.err
				}
			}
			if !c.wait(c.line.get(&c.line.answers)) {
				return 0, c.err
			}
			if len(k.data) == 0 && k.err != nil {
				return 0, k.err
			}
			c.rest = k.data
		case <-c.ended:
			return 0, c.err
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *conn) Write(p []byte) (int, error) {
	select {
	case c.out <- chunk{data: append([]byte(nil), p...)}:
		return len(p), nil
	case <-c.ended:
		return 0, c.err
	}
}
