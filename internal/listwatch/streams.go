package listwatch

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// streamKey is the metadata key of a watch's stream: the etcd client opens one gRPC stream for each
// distinct outgoing metadata.
const streamKey = "etcd-discovery-stream"

// spareStreams is how many streams without a watch are kept before the first of them is used again: one may be of a member
// that hangs.
const spareStreams = 3

// Streams numbers the gRPC streams that the watches of an etcd client share. A stream authenticates once,
// so a fault such as an expired token stays with it: after any failure, watches open on the next one. Watches that
// share a stream are told when it is lost, and share their signs of life.
//
// The etcd client keeps a stream whose last watch is closed while it is being opened or resumed, until the next watch on it is
// closed. Nobody else can end it. So streams that have no watch are used again, and few are ever left.
//
// One watch is opened at a time. If etcd denies two at the same time, its client can be left with a stream that never
// ends, and its Close then never returns.
type Streams struct {
	number    uint64        // tells their streams from those of others on the same etcd client, who would not hear of a loss
	turn      chan struct{} // holds a value while a watch is being opened
	connected bool          // the client has a connection, whose returns are told

	reading chan struct{} // holds a value while head reads

	mu        sync.Mutex
	pulse     pulse
	current   uint64                            // where watches are opened
	numbered  uint64                            // the highest stream so far
	unused    []uint64                          // streams before the current one that have no watch
	followers map[uint64]map[*follower]struct{} // by their stream
}

// numbers counts the Streams of the process.
var numbers atomic.Uint64

// StreamsOf returns the streams of a client. One that was put together from parts may have no connection. Nothing tells then
// that its etcd may have become another one, so its watches are asked for signs of life often.
func StreamsOf(c *clientv3.Client) *Streams {
	s := NewStreams()
	s.connected = c.ActiveConnection() != nil
	return s
}

// NewStreams returns the streams of a client without a connection.
func NewStreams() *Streams {
	return &Streams{
		number: numbers.Add(1), turn: make(chan struct{}, 1), reading: make(chan struct{}, 1),
		followers: make(map[uint64]map[*follower]struct{}),
	}
}

// open waits for the turn to open a watch, and returns the stream to open it on. The caller gives the turn back by
// opened, unless there is an error.
func (s *Streams) open(ctx context.Context) (stream uint64, err error) {
	select {
	case s.turn <- struct{}{}:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.current, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (s *Streams) opened() { <-s.turn }

// retire has later watches open on another stream than the given one.
func (s *Streams) retire(stream uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if stream != s.current {
		return
	}
	if len(s.unused) < spareStreams {
		s.numbered++
		s.current = s.numbered
	} else {
		s.current, s.unused = s.unused[0], s.unused[1:]
	}
	if len(s.followers[stream]) == 0 {
		s.unused = append(s.unused, stream)
	}
}

// on returns the context of calls on a stream, which takes a member that has a leader.
func (s *Streams) on(ctx context.Context, stream uint64) context.Context {
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), streamKey, fmt.Sprintf("%d/%d", s.number, stream))
}

// watchOn returns the context of a watch on a stream. From the call of opened on, it tells the watches on the stream when that
// is reopened.
func (s *Streams) watchOn(ctx context.Context, stream uint64) (_ context.Context, opened func()) {
	var isOpen atomic.Bool
	return streamContext{s.on(ctx, stream), func() {
		if isOpen.Load() {
			s.lost(stream)
		}
	}}, func() { isOpen.Store(true) }
}

// streamContext is the context of a watch. The etcd client reopens a lost stream without a word, but whoever opens a
// stream asks its context for the metadata to be sent.
type streamContext struct {
	context.Context
	asked func()
}

func (c streamContext) Value(key any) any {
	if key == outgoing {
		c.asked()
	}
	return c.Context.Value(key)
}

// outgoing is the key under which a context has the metadata to be sent. gRPC does not export it, so a context that notes
// what it is asked for catches it.
var outgoing = func() (outgoing any) {
	metadata.FromOutgoingContext(keyContext{context.Background(), &outgoing})
	return outgoing
}()

// keyContext notes the key that it is asked for.
type keyContext struct {
	context.Context
	key *any
}

func (c keyContext) Value(key any) any {
	*c.key = key
	return nil
}

// follower is a watch that is told of its stream.
type follower struct {
	lost func() // called when the stream is lost and being reopened; must return at once

	// Guarded by Streams.mu.
	first int64 // the revision that the watch began at, or no less than that if its stream was reopened since
}

// follow tells f of a stream, until stop is called.
func (s *Streams) follow(stream uint64, f *follower) (stop func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.followers[stream] == nil {
		s.followers[stream] = make(map[*follower]struct{})
	}
	s.followers[stream][f] = struct{}{}
	s.unused = slices.DeleteFunc(s.unused, func(unused uint64) bool { return unused == stream }) // it was retired since open
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.followers[stream], f); len(s.followers[stream]) > 0 {
			return
		}
		delete(s.followers, stream)
		if stream != s.current {
			s.unused = append(s.unused, stream)
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

// lost tells the watches on a stream that it is being reopened.
func (s *Streams) lost(stream uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.followers[stream] {
		f.lost()
	}
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
