package balancer

import "sync"

// queue holds events from any goroutine until they are handled one by one. It is safe for concurrent use.
type queue struct {
	start func() // schedules calls of all until it returns nothing; called with mu held, it must not block

	mu        sync.Mutex
	events    []func()
	scheduled bool // start was called, and since then all has not returned nothing
}

// put appends an event. It may be called with any lock held.
func (q *queue) put(event func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	if !q.scheduled {
		q.scheduled = true
		q.start()
	}
}

// all removes and returns all events. If the queue is empty, the next event calls start again.
func (q *queue) all() []func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	q.scheduled = len(events) > 0
	return events
}
