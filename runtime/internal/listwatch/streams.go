package listwatch

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"
)

// streamKey is the metadata key of a watch's stream: the etcd client opens one gRPC stream for each
// distinct outgoing metadata.
const streamKey = "etcd-discovery-stream"

// Streams numbers the gRPC streams that the watches of an etcd client share. A stream authenticates once,
// so a fault such as an expired token stays with it: after any failure, watches open on the next one. Watches that
// share a stream are told when it is lost and made anew, and share their signs of life.
//
// One watch is opened at a time. If etcd denies two at the same time, its client can be left with a stream that never
// ends, and its Close then never returns.
type Streams struct {
	n    atomic.Uint64
	turn chan struct{} // holds a value while a watch is being opened
	seen bool          // made and lost are called

	reading chan struct{} // holds a value while head reads

	mu        sync.Mutex
	pulse     pulse
	followers map[uint64]map[*follower]struct{} // by their stream
	ends      map[uint64]context.CancelFunc     // of the streams that the etcd client has made or is making
}

// NewStreams returns the streams of a client that makes them anew unseen. [Bounded] returns those of one that does not.
func NewStreams() *Streams {
	return &Streams{
		turn: make(chan struct{}, 1), reading: make(chan struct{}, 1),
		followers: make(map[uint64]map[*follower]struct{}), ends: make(map[uint64]context.CancelFunc),
	}
}

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
func (s *Streams) retire(stream uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n.CompareAndSwap(stream, stream+1)
	s.endUnused(stream)
}

// endUnused ends a stream that has no watch and gets none any more. The etcd client keeps it if its watch was given up
// while it was being opened. It must be called with mu held.
func (s *Streams) endUnused(stream uint64) {
	if end := s.ends[stream]; end != nil && s.unused(stream) {
		end()
		delete(s.ends, stream)
	}
}

func (s *Streams) unused(stream uint64) bool {
	return stream < s.n.Load() && len(s.followers[stream]) == 0
}

// bound returns the context for a stream that the etcd client is about to make, which ends when the stream is not used any
// more or end is called.
func (s *Streams) bound(ctx context.Context) (_ context.Context, end context.CancelFunc) {
	ctx, end = context.WithCancel(ctx)
	stream, ok := streamOf(ctx)
	if !ok {
		return ctx, end
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.ends[stream]; before != nil {
		before() // the client makes a stream anew when it has lost it
	}
	s.ends[stream] = end
	s.endUnused(stream)
	return ctx, end
}

// on returns the context of calls on a stream.
func (s *Streams) on(ctx context.Context, stream uint64) context.Context {
	return metadata.AppendToOutgoingContext(ctx, streamKey, strconv.FormatUint(stream, 10))
}

// follower is a watch that is told of its stream.
type follower struct {
	lost, anew func() // called when the stream is lost, and when it is made anew; both must return at once

	// Guarded by Streams.mu.
	first int64 // the revision that the watch began at, or no less than that if its stream was made anew since
	makes bool  // the stream is about to be made for this watch
}

// follow opens a watch on a stream, and tells f of the stream from then on, until stop is called.
func (s *Streams) follow(stream uint64, f *follower, open func()) (stop func()) {
	s.mu.Lock()
	f.makes = len(s.followers[stream]) == 0
	if f.makes {
		s.followers[stream] = make(map[*follower]struct{})
	}
	s.followers[stream][f] = struct{}{}
	s.mu.Unlock()
	open()
	s.mu.Lock()
	f.makes = false
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.followers[stream], f); len(s.followers[stream]) == 0 {
			delete(s.followers, stream)
			s.endUnused(stream)
		}
	}
}

// resumed notes that the etcd client has a watch go on at a revision, at the highest.
func (s *Streams) resumed(f *follower, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.first = max(f.first, revision)
}

// latest returns the highest revision that a watch of a stream began at. Before etcd has reached it, etcd answers no
// request for progress on the stream.
func (s *Streams) latest(stream uint64) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := int64(0)
	for f := range s.followers[stream] {
		latest = max(latest, f.first)
	}
	return latest
}

// lost notes that the etcd client has lost the stream of a context.
func (s *Streams) lost(ctx context.Context) {
	s.tell(ctx, func(f *follower) { f.lost() })
}

// made notes that the etcd client has made the stream of a context. If it was not for the first watch on it, it may lead
// to another etcd than before.
func (s *Streams) made(ctx context.Context) {
	s.tell(ctx, func(f *follower) {
		if f.makes {
			f.makes = false
		} else {
			f.anew()
		}
	})
}

// tell calls f for the watches on the stream of a context.
func (s *Streams) tell(ctx context.Context, f func(*follower)) {
	stream, ok := streamOf(ctx)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for follower := range s.followers[stream] {
		f(follower)
	}
}

// streamOf returns the stream that a context is of, false if it is of none.
func streamOf(ctx context.Context) (stream uint64, ok bool) {
	md, _ := metadata.FromOutgoingContext(ctx)
	for _, text := range md.Get(streamKey) {
		if stream, err := strconv.ParseUint(text, 10, 64); err == nil {
			return stream, true
		}
	}
	return 0, false
}

// ask reports whether a stream is to be asked for progress now.
func (s *Streams) ask(stream uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulse.ask(stream, time.Now())
}

// head returns where etcd is: as another range has read it, if that is no longer ago than the given age, or by read.
func (s *Streams) head(ctx context.Context, age time.Duration, read func() (*etcdserverpb.ResponseHeader, error)) (head, error) {
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return head{}, ctx.Err()
	}
	now := time.Now()
	s.mu.Lock()
	h, ok := s.pulse.recent(age, now)
	s.mu.Unlock()
	if ok {
		return h, nil
	}
	header, err := read()
	if err != nil {
		return head{}, err
	}
	h = head{header, now}
	s.mu.Lock()
	s.pulse.head = h
	s.mu.Unlock()
	return h, nil
}
