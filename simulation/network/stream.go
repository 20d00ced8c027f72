package network

import (
	"bytes"
	"time"
)

// window is how many bytes are buffered in one direction: what is in flight and what has arrived, but is not read.
const window = 64 << 10

// A stream is what one end of a connection is sent: bytes, of which the first have arrived.
type stream struct {
	buffer  bytes.Buffer
	arrived int
	flight  []segment // what has not arrived, in order
	timer   *time.Timer
	timed   bool // timer has yet to fire
}

// A segment is what was sent at once.
type segment struct {
	bytes int
	last  bool      // the close
	at    time.Time // when it arrives, unless the link is stalled
}

// write puts as much of b into the buffer as there is room for, and returns how much that is.
func (s *stream) write(b []byte) int {
	n, _ := s.buffer.Write(b[:min(len(b), window-s.buffer.Len())]) // it never fails
	return n
}

// read takes what has arrived and fits into b, and reports whether the buffer was full before.
func (s *stream) read(b []byte) (n int, wasFull bool) {
	wasFull = s.buffer.Len() == window
	n = copy(b, s.buffer.Next(min(len(b), s.arrived)))
	s.arrived -= n
	return n, wasFull
}

// send puts what was just written in flight, behind what was sent before.
func (s *stream) send(sent segment) {
	if len(s.flight) > 0 {
		before := s.flight[len(s.flight)-1]
		if sent.at.Before(before.at) {
			sent.at = before.at
		}
	}
	s.flight = append(s.flight, sent)
}

// hold keeps what is in flight from arriving.
func (s *stream) hold() {
	if s.timed {
		s.timer.Stop()
		s.timed = false
	}
}

// resume has all that was held arrive at a time.
func (s *stream) resume(at time.Time) {
	for i := range s.flight {
		s.flight[i].at = at
	}
}

// drop forgets what has not been read.
func (s *stream) drop() {
	s.hold()
	*s = stream{}
}
