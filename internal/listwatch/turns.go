package listwatch

import (
	"slices"
	"time"
)

const (
	// turnPatience is the time between two looks at whether watches wait for more than a moment.
	turnPatience = 50 * time.Millisecond
	// maxStreams bounds the streams on which watches are opened. Proxies often allow a hundred on a connection.
	maxStreams = 72
	// spareStreams is how many streams without a watch are kept before the first of them is used again: one may be of a
	// member that hangs.
	spareStreams = 3
)

// stream is a gRPC stream of watches.
type stream struct {
	number  uint64
	opening bool // a watch is being opened on it
	watches int
}

// turns decides when a watch is opened, and on which stream. The etcd client opens the watches of a stream one after the
// other, each in a round trip. Where more of them wait than can be opened so in a moment, streams are added. So one stream
// does at rest, or near etcd, and hundreds of watches take a few round trips far from it.
//
// A stream authenticates once, so a fault such as an expired token stays with it and with others of its age: after any
// failure, watches are opened on new ones.
//
// The etcd client keeps a stream whose last watch is closed while it is being opened or resumed, until the next watch on it is
// closed. Nobody else can end it. So streams that have no watch are used again, and few are ever left.
type turns struct {
	live     []*stream // where watches are opened, in the order in which they are preferred
	retired  []*stream // where none is opened any more, and some are still
	unused   []*stream // retired ones without a watch
	numbered uint64    // streams so far

	waiting [2][]*turn // first those that must not wait for the others
	over    int        // turns that were over since the last tick
}

// turn is the turn of a watch to be opened.
type turn struct {
	last   bool    // it may wait for all others
	stream *stream // nil: it has yet to come
}

// queue has a watch wait for its turn.
func (t *turns) queue(w *turn) {
	n := 0
	if w.last {
		n = 1
	}
	t.waiting[n] = append(t.waiting[n], w)
}

// forget has a watch not wait any longer.
func (t *turns) forget(w *turn) {
	for n := range t.waiting {
		t.waiting[n] = slices.DeleteFunc(t.waiting[n], func(o *turn) bool { return o == w })
	}
}

// left returns how many watches wait.
func (t *turns) left() int { return len(t.waiting[0]) + len(t.waiting[1]) }

// give returns the next turn that has come, nil for none.
func (t *turns) give() *turn {
	if t.left() == 0 {
		return nil
	}
	if len(t.live) == 0 {
		t.add()
	}
	i := slices.IndexFunc(t.live, func(s *stream) bool { return !s.opening })
	if i < 0 {
		return nil
	}
	n := 0
	if len(t.waiting[0]) == 0 {
		n = 1
	}
	w := t.waiting[n][0]
	t.waiting[n] = t.waiting[n][1:]
	w.stream = t.live[i]
	w.stream.opening = true
	w.stream.watches++
	return w
}

// tick adds the streams that it takes to have all watches that wait opened by the next tick.
func (t *turns) tick() {
	want := len(t.live) + t.left()
	if t.over > 0 {
		want = len(t.live) * t.left() / t.over
	}
	for len(t.live) < min(want, maxStreams) {
		t.add()
	}
	t.over = 0
}

// add adds a stream.
func (t *turns) add() {
	if len(t.unused) >= spareStreams {
		t.live, t.unused = append(t.live, t.unused[0]), t.unused[1:]
		return
	}
	t.live = append(t.live, &stream{number: t.numbered})
	t.numbered++
}

// opened notes that a watch was opened, or given up.
func (t *turns) opened(s *stream) {
	s.opening = false
	t.over++
	t.discard(s)
}

// closed notes that a watch was closed.
func (t *turns) closed(s *stream) {
	s.watches--
	t.discard(s)
}

// retire has no more watches opened on a stream on which one has failed, nor on those of its age.
func (t *turns) retire(s *stream) {
	if !slices.Contains(t.live, s) {
		return
	}
	live := t.live
	t.live, t.retired = nil, append(t.retired, live...)
	for _, s := range live {
		t.discard(s)
	}
}

// discard notes whether a retired stream has no watch any more.
func (t *turns) discard(s *stream) {
	if s.opening || s.watches > 0 {
		return
	}
	if i := slices.Index(t.retired, s); i >= 0 {
		t.retired = slices.Delete(t.retired, i, i+1)
		t.unused = append(t.unused, s)
	}
}
