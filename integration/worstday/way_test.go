package worstday

import (
	"context"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"
)

// way carries the bytes between the processes and etcd. [etcdtest.Cluster]
// makes cuts and pauses.
type way struct {
	mu     sync.Mutex
	refuse bool                       // connections are refused
	lose   bool                       // answers do not arrive
	delay  time.Duration              // of answers
	waits  map[string]<-chan struct{} // new connections to an address wait for its channel
}

func hostOf(endpoint string) string {
	return strings.TrimPrefix(endpoint, "http://")
}

// set changes the way.
func (w *way) set(change func(*way)) {
	w.mu.Lock()
	defer w.mu.Unlock()

	change(w)
}

func (w *way) dial(ctx context.Context, addr string) (net.Conn, error) {
	addr = hostOf(addr)
	w.mu.Lock()
	refuse := w.refuse
	wait := w.waits[addr]
	w.mu.Unlock()

	if refuse {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}

	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}

	inner, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}

	answers, to := io.Pipe()
	go w.carry(inner, to)

	return &conn{inner, answers}, nil
}

// carry carries the answers on a connection. Each answer has the delay from its
// own arrival: the delays of several answers do not add up.
func (w *way) carry(from net.Conn, to *io.PipeWriter) {
	type answer struct {
		data []byte
		due  time.Time
	}

	answers := make(chan answer, 1024)
	defer close(answers)

	var err error
	go func() {
		for a := range answers {
			time.Sleep(time.Until(a.due))
			_, _ = to.Write(a.data) // fails if the client has closed the connection
		}

		to.CloseWithError(err)
	}()

	for {
		var n int
		buf := make([]byte, 16<<10)

		n, err = from.Read(buf)
		if err != nil {
			return
		}

		w.mu.Lock()
		lose := w.lose
		due := time.Now().Add(w.delay)
		w.mu.Unlock()

		if !lose {
			answers <- answer{buf[:n], due}
		}
	}
}

// conn is a connection of a client.
type conn struct {
	net.Conn
	answers *io.PipeReader
}

func (c *conn) Read(p []byte) (int, error) {
	return c.answers.Read(p)
}

func (c *conn) Close() error {
	_ = c.answers.Close()
	return c.Conn.Close()
}
