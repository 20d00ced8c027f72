package network

import "time"

// window is how many bytes are buffered in one direction: what is in flight and what has arrived, but is not read.
const window = 64 << 10

// A stream is what one end of a connection is sent: a ring of bytes, of which the first have arrived.
type stream struct {
	ring          []byte // its length is a power of two
	start, length int
	arrived       int
	flight        []segment // what has not arrived, in order
	timer         *time.Timer
	timed         bool // timer has yet to fire
}

// A segment is what was sent at once.
type segment struct {
	bytes int
	last  bool      // the close
	at    time.Time // when it arrives, unless the link is stalled
}

// write puts as much of b into the ring as there is room for, and returns how much that is.
func (s *stream) write(b []byte) int {
	b = b[:min(len(b), window-s.length)]
	if len(b) == 0 {
		return 0
	}
	s.grow(s.length + len(b))
	at := (s.start + s.length) & (len(s.ring) - 1)
	n := copy(s.ring[at:], b)
	copy(s.ring, b[n:])
	s.length += len(b)
	return len(b)
}

// grow makes the ring as large as size.
func (s *stream) grow(size int) {
	if size <= len(s.ring) {
		return
	}
	larger := max(len(s.ring), 1<<10)
	for larger < size {
		larger *= 2
	}
	ring := make([]byte, larger)
	n := copy(ring, s.ring[s.start:])
	copy(ring[n:], s.ring[:s.start])
	s.ring, s.start = ring, 0
}

// read takes what has arrived and fits into b, and reports whether the ring was full before.
func (s *stream) read(b []byte) (n int, wasFull bool) {
	wasFull = s.length == window
	b = b[:min(len(b), s.arrived)]
	n = copy(b, s.ring[s.start:])
	copy(b[n:], s.ring)
	s.start = (s.start + len(b)) & (len(s.ring) - 1)
	s.length -= len(b)
	s.arrived -= len(b)
	return len(b), wasFull
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
