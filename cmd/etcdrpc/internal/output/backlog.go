package output

import (
	"bytes"
	"io"
	"sync"
	"time"
)

const (
	// maxBacklog is how many lines wait for a reader.
	maxBacklog = 1000

	// flushTimeout bounds the wait for the reader of the last lines.
	flushTimeout = time.Second
)

// Backlog is a writer that never waits for whoever reads: a goroutine of its own writes what waits. Lines that come while too
// many wait are dropped, and counted. Each Write is a line.
type Backlog struct {
	to   io.Writer
	wake chan struct{} // has one if there is something to write; Close closes it
	done chan struct{} // closed when everything is written after that

	mu      sync.Mutex
	waiting [][]byte
	dropped int
	closed  bool
}

// NewBacklog returns a writer whose lines go to another.
func NewBacklog(to io.Writer) *Backlog {
	b := &Backlog{to: to, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go b.pass()
	return b
}

// Write implements [io.Writer]. It never fails.
func (b *Backlog) Write(line []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
		return len(line), nil
	case b.dropped > 0 || len(b.waiting) == maxBacklog: // what is dropped is what came last
		b.dropped++
	default:
		b.waiting = append(b.waiting, bytes.Clone(line))
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// pass writes what waits until Close is called. That a line cannot be written is nothing to do about.
func (b *Backlog) pass() {
	defer close(b.done)
	for range b.wake {
		waiting, dropped := b.take()
		for _, line := range waiting {
			_, _ = b.to.Write(line)
		}
		if dropped > 0 {
			Sayf(b.to, "etcdrpc: %d more lines were dropped, for nobody read them\n", dropped)
		}
	}
}

func (b *Backlog) take() (waiting [][]byte, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting, dropped = b.waiting, b.dropped
	b.waiting, b.dropped = nil, 0
	return waiting, dropped
}

// Close drops what comes from now on, and waits a moment until what waits is written.
func (b *Backlog) Close() {
	b.mu.Lock()
	b.closed = true
	close(b.wake)
	b.mu.Unlock()
	timeout := time.NewTimer(flushTimeout)
	defer timeout.Stop()
	select {
	case <-b.done:
	case <-timeout.C:
	}
}
