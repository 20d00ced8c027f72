package discovery

import (
	"sync"
	"time"
)

// virtualClock measures the processor time of updates that are under way at the same time, and so wait for
// each other. It runs at full speed while there are no more updates than processors, and slows down in
// proportion when there are more. It is safe for concurrent use.
type virtualClock struct {
	processors int

	mu      sync.Mutex
	running int           // updates
	at      time.Time     // when it showed now
	now     time.Duration // what it shows
}

// start notes that an update begins. The function that it returns is to be called when the update ends, and
// returns what it cost.
func (c *virtualClock) start() (stop func() time.Duration) {
	began := c.add(1)
	return func() time.Duration { return c.add(-1) - began }
}

// add notes that more or fewer updates run from now on, and returns what the clock shows.
func (c *virtualClock) add(updates int) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now()
	if c.running > 0 {
		c.now += at.Sub(c.at) * time.Duration(min(c.running, c.processors)) / time.Duration(c.running)
	}
	c.at = at
	c.running += updates
	return c.now
}
