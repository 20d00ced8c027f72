package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"
)

// sentinel is a key that the first watch of each stream watches, and of those drawn none. What was written before it has
// been delivered once its event has come, save to watches that began in the past.
const sentinel = "!"

// stream is one stream of watches. It keeps what came until it is compared.
type stream struct {
	side   *side
	client pb.Watch_WatchClient
	cancel context.CancelFunc

	mu   sync.Mutex
	came chan struct{} // closed and replaced when something came
	content
	seen int64 // the revision of the last sentinel event
	err  error
}

// open starts a stream of watches and a watch of the sentinel on it.
func (s *side) open() *stream {
	ctx, cancel := context.WithCancel(s.outgoing(s.ctx))
	client, err := pb.NewWatchClient(s.conn).Watch(ctx)
	if err != nil {
		cancel()
		s.t.Fatalf("%s: open a stream of watches: %v", s.name, err)
	}
	st := &stream{side: s, client: client, cancel: cancel, came: make(chan struct{})}
	st.events = map[int64][]proto.Message{}
	go st.receive()
	return st
}

// receive takes what comes until the stream ends.
func (st *stream) receive() {
	for {
		resp, err := st.client.Recv()
		st.mu.Lock()
		if err != nil {
			st.err = err
		} else {
			st.add(resp)
		}
		close(st.came)
		st.came = make(chan struct{})
		st.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (st *stream) add(resp *pb.WatchResponse) {
	id := resp.WatchId
	switch {
	case resp.Created || resp.Canceled && resp.CompactRevision == 0:
		st.control = append(st.control, resp)
	case len(resp.Events) == 0:
		st.events[id] = append(st.events[id], resp)
	}
	for _, event := range resp.Events {
		st.events[id] = append(st.events[id], event)
		if string(event.Kv.Key) == sentinel {
			st.seen = max(st.seen, event.Kv.ModRevision)
		}
		if event.Kv.ModRevision > resp.Header.Revision {
			st.wrong = append(st.wrong, fmt.Sprintf("an event of revision %d under a header of revision %d",
				event.Kv.ModRevision, resp.Header.Revision))
		}
	}
}

func (st *stream) send(req *pb.WatchRequest) {
	if err := st.client.Send(req); err != nil {
		st.side.t.Fatalf("%s: send %s: %v", st.side.name, words(req), err)
	}
}

// await waits until what came suffices.
func (st *stream) await(what string, enough func() bool) {
	timeout := time.After(patience)
	for {
		st.mu.Lock()
		done, err, came := enough(), st.err, st.came
		st.mu.Unlock()
		if done {
			return
		}
		if err != nil {
			st.side.t.Fatalf("%s: the stream ended before %s: %v", st.side.name, what, err)
		}
		select {
		case <-came:
		case <-timeout:
			st.side.t.Fatalf("%s: no %s within %v; what came: %v", st.side.name, what, patience, st.take())
		}
	}
}

func watchFor(req *pb.WatchCreateRequest) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: req}}
}

func cancelOf(id int64) *pb.WatchRequest {
	return &pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}
}

// ask sends a request that is answered, and returns the answer.
func (st *stream) ask(req *pb.WatchRequest) *pb.WatchResponse {
	st.mu.Lock()
	before := len(st.control)
	st.mu.Unlock()
	st.send(req)
	var resp *pb.WatchResponse
	st.await("answer to "+words(req), func() bool {
		if len(st.control) <= before {
			return false
		}
		resp = st.control[before].(*pb.WatchResponse)
		return true
	})
	return resp
}

// content is what came on a stream.
type content struct {
	control []proto.Message           // answers to what was asked: created, cancelled
	events  map[int64][]proto.Message // by watch: events, progress and the end by compaction; -1 for all watches
	wrong   []string                  // headers that cannot be
}

// take empties the stream of what came, and normalises it.
func (st *stream) take() content {
	st.mu.Lock()
	defer st.mu.Unlock()
	taken := st.content
	st.content = content{events: map[int64][]proto.Message{}}
	for _, messages := range append(slices.Collect(maps.Values(taken.events)), taken.control) {
		for _, m := range messages {
			st.side.leases.normal(m)
		}
	}
	return taken
}

// revisionOf is the revision of an event or of another message to a watch.
func revisionOf(m proto.Message) int64 {
	if event, ok := m.(*mvccpb.Event); ok {
		return event.Kv.ModRevision
	}
	return m.(*pb.WatchResponse).Header.Revision
}

// equal reports whether the same came on two streams, and nothing impossible.
func (c content) equal(d content) bool {
	same := func(a, b []proto.Message) bool { return slices.EqualFunc(a, b, proto.Equal) }
	return same(c.control, d.control) && maps.EqualFunc(c.events, d.events, same) && len(c.wrong)+len(d.wrong) == 0
}

func (c content) String() string {
	var b strings.Builder
	for _, m := range c.control {
		fmt.Fprintf(&b, "\n    answered %s", words(m))
	}
	for _, id := range slices.Sorted(maps.Keys(c.events)) {
		for _, m := range c.events[id] {
			fmt.Fprintf(&b, "\n    to %d: %s", id, words(m))
		}
	}
	for _, text := range c.wrong {
		fmt.Fprintf(&b, "\n    wrong: %s", text)
	}
	return b.String()
}

// open starts streams of watches on both sides, each with a watch of the sentinel.
func (p *pair) open(streams int) {
	p.t.Helper()
	p.alive = nil
	for i := range streams {
		for _, s := range p.sides() {
			s.streams = append(s.streams, s.open())
		}
		p.alive = append(p.alive, map[int64]bool{})
		p.create(i, &pb.WatchCreateRequest{Key: []byte(sentinel)})
	}
	for _, s := range p.sides() {
		s.probe = s.open()
	}
}

// shut ends the streams of watches.
func (p *pair) shut() {
	for _, s := range p.sides() {
		for _, st := range s.streams {
			st.cancel()
		}
		if s.probe != nil {
			s.probe.cancel()
		}
		s.streams, s.probe = nil, nil
	}
}

func (p *pair) sides() []*side { return []*side{p.real, p.model} }

// create starts a watch and compares the answers.
func (p *pair) create(stream int, req *pb.WatchCreateRequest) *pb.WatchResponse {
	p.t.Helper()
	real := p.ask(stream, watchFor(req))
	p.count(req, errors.New(real.CancelReason))
	if !real.Canceled {
		p.alive[stream][real.WatchId] = true
		p.past = p.past || req.StartRevision > 0 && req.StartRevision <= p.now
	}
	return real
}

// cancel ends a watch. Only one that is alive gets an answer.
func (p *pair) cancel(stream int, id int64) {
	p.t.Helper()
	p.settle() // etcd drops what it has not yet sent to a watch that is cancelled
	if p.alive[stream][id] {
		delete(p.alive[stream], id)
		p.ask(stream, cancelOf(id))
		return
	}
	p.tell(stream, cancelOf(id))
}

// progress asks for the progress of a stream. Whether that is answered shows when all has come.
func (p *pair) progress(stream int) {
	p.t.Helper()
	p.settle()
	p.tell(stream, &pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
		ProgressRequest: &pb.WatchProgressRequest{},
	}})
	p.ping(stream)
	p.settle()
}

// ping waits until both have read all that was sent on a stream: they read one request after the other.
func (p *pair) ping(stream int) {
	p.t.Helper()
	p.ask(stream, watchFor(&pb.WatchCreateRequest{Key: []byte(sentinel), StartRevision: -1})) // refused
}

// ask sends a request on a stream and compares the answers.
func (p *pair) ask(stream int, req *pb.WatchRequest) *pb.WatchResponse {
	p.t.Helper()
	p.note(fmt.Sprintf("on stream %d: %s", stream, words(req)))
	real, model := p.real.streams[stream].ask(req), p.model.streams[stream].ask(req)
	a, b := answer{msg: p.real.leases.normal(real)}, answer{msg: p.model.leases.normal(model)}
	if !a.equal(b, p.apart) {
		p.differ(a.String(), b.String())
	}
	return real
}

// tell sends a request on a stream.
func (p *pair) tell(stream int, req *pb.WatchRequest) {
	p.note(fmt.Sprintf("on stream %d: %s", stream, words(req)))
	for _, s := range p.sides() {
		s.streams[stream].send(req)
	}
}

// settle waits until all that was written so far has reached the watches of it, and compares what they got.
func (p *pair) settle() {
	p.t.Helper()
	if p.alarmed {
		p.alarm(false)
		defer p.alarm(true)
	}
	revision := p.mark()
	if p.past {
		p.catchUp(revision)
		revision = p.mark()
	}
	for i := range p.real.streams {
		for _, s := range p.sides() {
			st := s.streams[i]
			st.await(fmt.Sprintf("event of the sentinel at revision %d", revision), func() bool { return st.seen >= revision })
		}
		real, model := p.real.streams[i].take(), p.model.streams[i].take()
		if !real.equal(model) {
			p.note(fmt.Sprintf("compare stream %d", i))
			p.differ(real.String(), model.String())
		}
	}
}

// mark writes the sentinel and returns its revision.
func (p *pair) mark() int64 {
	p.t.Helper()
	return p.must(&pb.PutRequest{Key: []byte(sentinel)}).(*pb.PutResponse).Header.Revision
}

// catchUp waits until each side has gone through the watches that began in the past, as etcd does every 100 ms: a
// watch of its own, which begins at the revision, has then got its event.
func (p *pair) catchUp(revision int64) {
	for _, s := range p.sides() {
		created := s.probe.ask(watchFor(&pb.WatchCreateRequest{Key: []byte(sentinel), StartRevision: revision}))
		s.probe.await("event in the past", func() bool { return s.probe.seen >= revision })
		s.probe.ask(cancelOf(created.WatchId))
		s.probe.take()
	}
	p.past = false
}
