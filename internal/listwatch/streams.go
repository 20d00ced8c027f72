package listwatch

import (
	"context"
	"fmt"
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

// Streams are the gRPC streams that the watches of an etcd client share. Watches on one stream are told when it is lost, and
// share their signs of life. turns decides which watch is opened on which.
//
// On a stream, one watch is opened at a time. If etcd denies one at the instant at which another ends, its client can be left
// with a stream that never ends, and its Close then never returns. Watches that the client itself resumes can still meet that.
type Streams struct {
	number    uint64 // tells their streams from those of others on the same etcd client, who would not hear of a loss
	connected bool   // the client has a connection, whose returns are told

	mu        sync.Mutex
	turns     turns
	waiting   map[*turn]chan struct{} // each closed when the turn has come
	ticking   bool                    // turns.tick is about to be called
	pulse     pulse
	reading   *reading                           // of the head that is under way; nil: none
	followers map[*stream]map[*follower]struct{} // by their stream
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
		number: numbers.Add(1), waiting: make(map[*turn]chan struct{}), followers: make(map[*stream]map[*follower]struct{}),
	}
}

// Connected reports whether the client has a connection, whose returns are told.
func (s *Streams) Connected() bool { return s.connected }

// open waits for the turn to open a watch, and returns the stream to open it on. f follows that from then on. The caller gives
// the turn back by opened, and calls closed once the watch is closed, unless there is no stream: ctx has ended, which is an
// error.
func (s *Streams) open(ctx context.Context, last bool, f *follower) (*stream, error) {
	w, came := &turn{last: last}, make(chan struct{})
	s.mu.Lock()
	s.turns.queue(w)
	s.waiting[w] = came
	s.give()
	s.mu.Unlock()
	select {
	case <-came:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.stream == nil {
		s.turns.forget(w)
		delete(s.waiting, w)
		return nil, ctx.Err()
	}
	if s.followers[w.stream] == nil {
		s.followers[w.stream] = make(map[*follower]struct{})
	}
	s.followers[w.stream][f] = struct{}{}
	return w.stream, nil
}

// give hands out the turns that have come. It must be called with mu held.
func (s *Streams) give() {
	for w := s.turns.give(); w != nil; w = s.turns.give() {
		close(s.waiting[w])
		delete(s.waiting, w)
	}
	if s.turns.left() > 0 && !s.ticking {
		s.ticking = true
		time.AfterFunc(turnPatience, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.ticking = false
			s.turns.tick()
			s.give()
		})
	}
}

// opened gives a turn back.
func (s *Streams) opened(on *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns.opened(on)
	s.give()
}

// closed notes that the watch of f is closed.
func (s *Streams) closed(on *stream, f *follower) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.followers[on], f); len(s.followers[on]) == 0 {
		delete(s.followers, on)
	}
	s.turns.closed(on)
}

// retire has later watches open on another stream than the given one, on which a watch has failed.
func (s *Streams) retire(on *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turns.retire(on)
	s.give()
}

// on returns the context of calls on a stream, which takes a member that has a leader.
func (s *Streams) on(ctx context.Context, on *stream) context.Context {
	return metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), streamKey, fmt.Sprintf("%d/%d", s.number, on.number))
}

// watchOn returns the context of a watch on a stream. From the call of opened on, it tells the watches on the stream when that
// is reopened.
func (s *Streams) watchOn(ctx context.Context, on *stream) (_ context.Context, opened func()) {
	var isOpen atomic.Bool
	return streamContext{s.on(ctx, on), func() {
		if isOpen.Load() {
			s.lost(on)
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
// what it is asked for catches it. Nothing is read by it. If gRPC came to keep the metadata elsewhere, no loss would be told, and
// the range would find out as it does where the etcd client has no connection: by a sign of life.
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

// resumed notes that the etcd client has a watch go on at a revision, at the highest.
func (s *Streams) resumed(f *follower, revision int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.first = max(f.first, revision)
}

// latest returns the highest revision that a watch of a stream began at. Before etcd has reached it, etcd answers no
// request for progress on the stream.
func (s *Streams) latest(on *stream) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest := int64(0)
	for f := range s.followers[on] {
		latest = max(latest, f.first)
	}
	return latest
}

// lost tells the watches on a stream that it is being reopened.
func (s *Streams) lost(on *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for f := range s.followers[on] {
		f.lost()
	}
}

// ask reports whether a stream is to be asked for progress now.
func (s *Streams) ask(on *stream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulse.ask(on, time.Now())
}

// answered notes how long etcd took to answer a read.
func (s *Streams) answered(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulse.answered(took, time.Now())
}

// roundTrip returns how long etcd usually takes to answer, 0 while it has not.
func (s *Streams) roundTrip() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pulse.roundTrip
}

// reading is a read of the head that is under way. Its outcome is for all who wait for it.
type reading struct {
	head head
	err  error
	left bool // who read has ended, and knows nothing
	done chan struct{}
}

// head returns where etcd is: as another range has read it, if that is no longer ago than the given age, or by read, whose
// outcome is shared with those who ask meanwhile.
func (s *Streams) head(ctx context.Context, age time.Duration, read func() (*etcdserverpb.ResponseHeader, error)) (head, error) {
	s.mu.Lock()
	now := time.Now()
	if h, ok := s.pulse.recent(age, now); ok {
		s.mu.Unlock()
		return h, nil
	}
	if r := s.reading; r != nil && now.Sub(r.head.at) <= age {
		s.mu.Unlock()
		select {
		case <-r.done:
		case <-ctx.Done():
			return head{}, ctx.Err()
		}
		if r.left {
			return s.head(ctx, age, read)
		}
		return r.head, r.err
	}
	r := &reading{head: head{at: now}, done: make(chan struct{})}
	s.reading = r
	s.mu.Unlock()
	r.head.header, r.err = read()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reading == r {
		s.reading = nil
	}
	r.left = ctx.Err() != nil
	if r.err == nil && r.head.at.After(s.pulse.head.at) {
		s.pulse.head = r.head
	}
	close(r.done)
	return r.head, r.err
}
