package listwatch

import (
	"context"
	"sync/atomic"
)

// streamKey is the metadata key of a watch's stream: the etcd client opens one gRPC stream for each
// distinct outgoing metadata.
const streamKey = "etcd-discovery-stream"

// Streams numbers the gRPC streams that the watches of an etcd client share. A stream authenticates once,
// so a fault such as an expired token stays with it: after any failure, watches open on the next one.
//
// One watch is opened at a time. If etcd denies two at the same time, its client can be left with a stream that never
// ends, and its Close then never returns.
type Streams struct {
	n    atomic.Uint64
	turn chan struct{} // holds a value while a watch is being opened
}

// NewStreams returns the streams of a client.
func NewStreams() *Streams { return &Streams{turn: make(chan struct{}, 1)} }

// open waits for the turn to open a watch, and returns the stream to open it on. The caller gives the turn back by
// opened, unless there is an error.
func (s *Streams) open(ctx context.Context) (stream uint64, err error) {
	select {
	case s.turn <- struct{}{}:
		return s.n.Load(), nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *Streams) opened() { <-s.turn }

// retire has later watches open on another stream than the given one.
func (s *Streams) retire(stream uint64) { s.n.CompareAndSwap(stream, stream+1) }
