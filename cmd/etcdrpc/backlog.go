package main

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
)

const (
	// maxBacklog is how many lines wait for a reader.
	maxBacklog = 1000

	// flushTimeout bounds the wait for the reader of the last lines.
	flushTimeout = time.Second
)

// backlog is a writer that never waits for whoever reads: a goroutine of its own writes what waits. Lines that come while too
// many wait are dropped, and counted. Each Write is a line.
type backlog struct {
	to   io.Writer
	wake chan struct{} // has one if there is something to write; close closes it
	done chan struct{} // closed when everything is written after that

	mu      sync.Mutex
	waiting [][]byte
	dropped int
	closed  bool
}

func newBacklog(to io.Writer) *backlog {
	b := &backlog{to: to, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go b.pass()
	return b
}

// Write never fails.
func (b *backlog) Write(line []byte) (int, error) {
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

// pass writes what waits until close is called. That a line cannot be written is nothing to do about.
func (b *backlog) pass() {
	defer close(b.done)
	for range b.wake {
		waiting, dropped := b.take()
		for _, line := range waiting {
			_, _ = b.to.Write(line)
		}
		if dropped > 0 {
			output.Sayf(b.to, "etcdrpc: %d more lines were dropped, for nobody read them\n", dropped)
		}
	}
}

func (b *backlog) take() (waiting [][]byte, dropped int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	waiting, dropped = b.waiting, b.dropped
	b.waiting, b.dropped = nil, 0
	return waiting, dropped
}

// close drops what comes from now on, and waits a moment until what waits is written.
func (b *backlog) close() {
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
