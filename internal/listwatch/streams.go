package listwatch

import (
	"context"
	"fmt"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

const (
	// streamKey is the metadata key of a watch's stream: the etcd client opens one gRPC stream for each
	// distinct outgoing metadata.
	streamKey = "etcd-discovery-stream"
	// streamVersions is the number of streams that are used in turn. After a failed watch, the next stream is used.
	streamVersions = 4
)

// streams chooses the gRPC stream on which the etcd client opens a watch.
//
// New watches share one stream: a connection may allow as few as three streams, and each stream is a login. So the watches open one
// after the other, each in a round trip, as those of the etcd client do. Until then, their ranges are proven.
//
// A stream authenticates once, so a fault such as an expired token lasts as long as the stream: after a failure, another stream is
// used. If the last watch of a stream is closed while being opened or resumed, the etcd client keeps the stream until another watch
// on it is closed. So few streams are used in turn, and no stream is kept for good.
//
// One watch is opened at a time. If etcd denied one watch just as another ended, the etcd client could keep a stream that
// never ends, and its Close would never return. Watches that the etcd client resumes by itself can still cause that.
type streams struct {
	opening chan struct{} // full while a watch is being opened
	version atomic.Uint64 // the number of changes to another stream
}

// stream is a gRPC stream of watches.
type stream struct {
	of      *streams
	version uint64
	name    string // the value of streamKey
}

func newStreams() *streams { return &streams{opening: make(chan struct{}, 1)} }

// open returns a stream once no other watch is being opened, or nil if ctx ends first. The caller must call opened.
func (s *streams) open(ctx context.Context) *stream {
	select {
	case s.opening <- struct{}{}:
		version := s.version.Load()
		return &stream{s, version, fmt.Sprintf("%p/%d", s, version%streamVersions)} // the client may have other conversations
	case <-ctx.Done():
		return nil
	}
}

// opened allows the next watch to be opened.
func (s *stream) opened() { <-s.of.opening }

// retire makes the next watches use another stream, because a watch on the stream s has failed.
func (s *stream) retire() { s.of.version.CompareAndSwap(s.version, s.version+1) }

// context returns the context for watches on the stream. It requires a member that has a leader.
func (s *stream) context(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), streamKey, s.name)
}
