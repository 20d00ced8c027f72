package network

import (
	"bytes"
	"time"
)

// window is how many bytes are buffered in one direction: those in flight and those that have arrived but are not read.
const window = 64 << 10

// A stream holds the bytes sent to one end of a connection. The first of them have arrived.
type stream struct {
	buffer  bytes.Buffer
	arrived int
	flight  []segment // segments that have not arrived, in order
	timer   *time.Timer
	timed   bool // timer has yet to fire
}

// A segment is a run of bytes sent at once.
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

// read takes the arrived bytes that fit into b, and reports whether the buffer was full before.
func (s *stream) read(b []byte) (n int, wasFull bool) {
	wasFull = s.buffer.Len() == window
	n = copy(b, s.buffer.Next(min(len(b), s.arrived)))
	s.arrived -= n
	return n, wasFull
}

// send puts the bytes just written in flight, behind the earlier ones.
func (s *stream) send(sent segment) {
	if len(s.flight) > 0 {
		before := s.flight[len(s.flight)-1]
		if sent.at.Before(before.at) {
			sent.at = before.at
		}
	}
	s.flight = append(s.flight, sent)
}

// hold keeps segments in flight from arriving.
func (s *stream) hold() {
	if s.timed {
		s.timer.Stop()
		s.timed = false
	}
}

// resume sets the time at which all held segments arrive.
func (s *stream) resume(at time.Time) {
	for i := range s.flight {
		s.flight[i].at = at
	}
}

// drop forgets all unread bytes.
func (s *stream) drop() {
	s.hold()
	*s = stream{}
}
