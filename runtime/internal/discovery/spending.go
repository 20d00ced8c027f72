package discovery

import (
	"sync"
	"time"
)

// spending measures what updates cost of those that are under way at the same time, and so wait for the
// same processors: each is charged its share of them. It is a clock that runs the slower the more updates
// there are for a processor. It is safe for concurrent use.
type spending struct {
	processors int

	mu       sync.Mutex
	underWay int
	at       time.Time     // when clock was right
	clock    time.Duration // that an update would have taken that was always under way
}

// begin notes that an update begins, and returns a function to be called when it ends, which returns the
// update's cost.
func (s *spending) begin() (end func() time.Duration) {
	began := s.change(1)
	return func() time.Duration { return s.change(-1) - began }
}

// change notes that more or fewer updates are under way from now on, and returns the clock.
func (s *spending) change(by int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.underWay > 0 {
		s.clock += now.Sub(s.at) * time.Duration(min(s.underWay, s.processors)) / time.Duration(s.underWay)
	}
	s.at = now
	s.underWay += by
	return s.clock
}
