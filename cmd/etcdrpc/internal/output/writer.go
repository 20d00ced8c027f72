package output

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"time"
)

// Checked writes to a writer, and keeps the first error. Concurrent use is safe if that writer allows it.
type Checked struct {
	to     io.Writer
	failed func() // called once, at the first error

	mu  sync.Mutex
	err error
}

// Check returns a writer to w that calls failed once, at the first error.
func Check(w io.Writer, failed func()) *Checked { return &Checked{to: w, failed: failed} }

// Write implements [io.Writer].
func (c *Checked) Write(text []byte) (int, error) {
	n, err := c.to.Write(text)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = fmt.Errorf("write the output: %w", err)
			c.failed()
		}
	}
	return n, err
}

// Err returns the first error.
func (c *Checked) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// unread is a writer of lines that never waits for its reader: it drops lines while too many are queued.
type unread chan []byte

func (u unread) Write(line []byte) (int, error) {
	select {
	case u <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}

// Unread returns a writer that queues lines, and writes them to dst in the background. end waits at most a second for the queue.
func Unread(dst io.Writer) (w io.Writer, end func()) {
	lines, written := make(unread, 1000), make(chan struct{})
	go func() {
		defer close(written)
		for line := range lines {
			if line == nil {
				return
			}
			_, _ = dst.Write(line) // an error cannot be shown anywhere
		}
	}()
	return lines, func() {
		timeout := time.After(time.Second)
		select {
		case lines <- nil: // nil marks the end, because others may still write to the channel
		case <-timeout:
			return
		}
		select {
		case <-written:
		case <-timeout:
		}
	}
}
