package listwatch

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

const (
	// streamKey is the metadata key of a watch's stream: the etcd client opens
	// one gRPC stream for each distinct outgoing metadata.
	streamKey = "etcd-discovery-stream"

	// streamNames is the number of names for streams, which are used in turn.
	streamNames = 4
)

// streams chooses the gRPC stream on which the etcd client opens a watch.
//
// New watches share one stream: a proxy may allow as few as three streams on a
// connection, and each is a login. A stream authenticates once, so a fault such
// as an expired token lasts as long as the stream. After a failed watch, all
// watches move to the next stream.
//
// If the last watch of a stream is closed while that watch is being opened or
// resumed, the etcd client keeps the stream until another watch on it is
// closed. A few names are used in turn, so that no stream is kept for good.
//
// Watches are opened one at a time. Opening one takes a round trip. Ranges
// whose watches are not open yet are proven. If watches were opened
// concurrently, and etcd denied one just as another ended, the etcd client
// could keep a stream that never ends, and its Close would never return.
// Watches that the etcd client resumes by itself can still cause that.
type streams struct {
	opening chan struct{} // full while a watch is being opened
	current atomic.Pointer[stream]
}

// stream is a gRPC stream of watches.
type stream struct {
	of      *streams
	number  int
	since   time.Time
	retired chan struct{} // closed once watches must move to the next stream
}

func newStreams() *streams {
	s := &streams{opening: make(chan struct{}, 1)}
	s.current.Store(&stream{of: s, retired: make(chan struct{})})

	return s
}

// open returns the stream for a watch once no other watch is being opened, or
// nil if ctx ends first. Once the watch is open, the caller must empty opening.
func (s *streams) open(ctx context.Context) *stream {
	select {
	case s.opening <- struct{}{}:
		return s.current.Load()
	case <-ctx.Done():
		return nil
	}
}

// retire makes all watches move to another stream, because a watch on this one
// has failed. A young stream stays: it is not the reason, and the watches have
// only just moved to it.
func (s *stream) retire() {
	if time.Since(s.since) <= steadyAfter {
		return
	}

	next := &stream{s.of, s.number + 1, time.Now(), make(chan struct{})}
	if s.of.current.CompareAndSwap(s, next) {
		close(s.retired)
	}
}

// context returns the context for watches on the stream. It requires a member
// that has a leader. The stream's name has the address of streams, since the
// etcd client may have other conversations.
func (s *stream) context(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx),
		streamKey, fmt.Sprintf("%p/%d", s.of, s.number%streamNames))
}
