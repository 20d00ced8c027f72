package listwatch

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
)

const (
	// streamKey is the metadata key of a watch's stream: the etcd client opens one gRPC stream for each
	// distinct outgoing metadata.
	streamKey = "etcd-discovery-stream"
	// streamSlots bounds the streams in use, which are one at first.
	streamSlots = 16
	// slowAfter is how long a watch waits to be opened before more streams are used.
	slowAfter = 500 * time.Millisecond
	// spareStreams is the number of streams that must be left for calls, renewals of leases, and other users of the client.
	spareStreams = 4
	// roomTimeout bounds the time for those streams to open. Until then, calls may have to wait.
	roomTimeout = time.Second
	// roomAgain is the time from an attempt to open them that failed to the next one.
	roomAgain = time.Minute
	// streamVersions is the number of streams that a slot uses in turn. A failed watch moves its slot to the next stream.
	streamVersions = 4
)

// Streams are the gRPC streams that the watches of an etcd client share, in slots. Streams also holds what the ranges of a client
// share: their number, and doubts about etcd.
//
// A stream authenticates once, so a fault such as an expired token lasts as long as the stream: after a failure, the slot
// changes to another stream. If the last watch of a stream is closed while being opened or resumed, the etcd client keeps the
// stream until another watch on it is closed. So a slot uses few streams in turn, and no stream is kept for good.
//
// All ranges share one stream at first: a connection may allow as few as three streams, and calls need some of them. But the etcd
// client opens the watches of a stream one after the other, each in a round trip. So if etcd is far away, and a watch waits for
// slowAfter, the number of streams doubles, provided that the connection has room for them and for spareStreams others.
//
// Each stream opens one watch at a time. If etcd denied one watch just as another ended, the etcd client could keep a stream that
// never ends, and its Close would never return. Watches that the etcd client resumes by itself can still cause that.
type Streams struct {
	number uint64 // distinguishes the streams from those of other Streams on the same etcd client
	slots  [streamSlots]slot
	opens  atomic.Uint64 // how often open was called
	used   atomic.Uint64 // the number of slots in use
	// room reports whether the client's connection allows n more streams. It is nil if the client has no such connection. Then the
	// number of slots in use does not grow, and nothing calls Group.ConnChanged.
	room func(ctx context.Context, n int) bool
	// connected waits until the client is connected or cannot connect. It returns false if ctx ends first.
	connected func(ctx context.Context) bool
	growing   sync.Mutex // held while the number may grow
	full      time.Time  // when room last returned false

	mu     sync.Mutex
	ranges map[chan<- struct{}]struct{} // the doubt channel of each range
}

// slot is a place for a stream.
type slot struct {
	opening chan struct{} // full while a watch is being opened
	version atomic.Uint64 // the number of changes to another stream
}

// stream is a gRPC stream of watches.
type stream struct {
	slot    *slot
	version uint64
	name    string // the value of streamKey
}

// numbers counts the Streams of the process.
var numbers atomic.Uint64

// StreamsOf makes the Streams of a client. For a client without a connection, such as one of clientv3.NewCtxClient, no event
// reports a reconnection, after which etcd may be another one. So its ranges are probed often.
func StreamsOf(c *clientv3.Client) *Streams {
	s := NewStreams()
	if conn := c.ActiveConnection(); conn != nil {
		s.room = func(ctx context.Context, n int) bool { return hasRoom(ctx, etcdserverpb.NewWatchClient(conn), n) }
		s.connected = func(ctx context.Context) bool {
			conn.Connect() // an unused client is idle
			return conn.WaitForStateChange(ctx, connectivity.Connecting)
		}
	}
	return s
}

// NewStreams returns the streams of a client without a connection.
func NewStreams() *Streams {
	s := &Streams{number: numbers.Add(1), ranges: make(map[chan<- struct{}]struct{}), connected: func(context.Context) bool { return true }}
	for i := range s.slots {
		s.slots[i].opening = make(chan struct{}, 1)
	}
	s.used.Store(1)
	return s
}

// open returns a stream once no other watch is being opened on it. The caller must call stream.opened. It returns nil if ctx has
// ended, or after a signal on conn.
func (s *Streams) open(ctx context.Context, conn <-chan struct{}) *stream {
	for {
		used := s.used.Load()
		i := s.opens.Add(1) % used
		slot := &s.slots[i]
		select {
		case slot.opening <- struct{}{}:
			version := slot.version.Load()
			return &stream{slot, version, fmt.Sprintf("%d/%d/%d", s.number, i, version%streamVersions)}
		case <-time.After(slowAfter):
			s.grow(ctx, used)
		case <-conn:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// grow doubles the number of slots in use if the connection has room, unless another caller has done so or is doing so.
func (s *Streams) grow(ctx context.Context, used uint64) {
	if !s.growing.TryLock() {
		return
	}
	defer s.growing.Unlock()
	if s.room == nil || s.used.Load() != used || used == streamSlots || time.Since(s.full) < roomAgain {
		return
	}
	if s.room(ctx, int(used)+spareStreams) {
		s.used.Store(2 * used)
	} else {
		s.full = time.Now()
	}
}

// hasRoom reports whether a connection allows n more streams. It opens them all, without a watch: if they are too many, gRPC waits.
func hasRoom(ctx context.Context, client etcdserverpb.WatchClient, n int) bool {
	ctx, cancel := context.WithTimeout(ctx, roomTimeout)
	defer cancel() // ends the streams
	opened := make(chan error, n)
	for range n {
		go func() {
			_, err := client.Watch(ctx)
			opened <- err
		}()
	}
	for range n {
		if <-opened != nil {
			return false
		}
	}
	return true
}

// opened allows the next watch to be opened on the stream.
func (s *stream) opened() { <-s.slot.opening }

// retire moves the slot to its next stream, because a watch on the stream s has failed.
func (s *stream) retire() { s.slot.version.CompareAndSwap(s.version, s.version+1) }

// context returns the context for watches on the stream. It requires a member that has a leader.
func (s *stream) context(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), streamKey, s.name)
}

// join adds a range, whose channel doubt receives a signal when a range doubts etcd. leave removes the range.
func (s *Streams) join(doubt chan<- struct{}) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ranges[doubt] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.ranges, doubt)
	}
}

// doubt signals to every range that etcd is in doubt.
func (s *Streams) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.ranges {
		Signal(c)
	}
}

// following returns the number of ranges that the client follows.
func (s *Streams) following() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ranges)
}
