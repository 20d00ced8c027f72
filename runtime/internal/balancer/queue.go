package balancer

import "sync"

// queue holds events until they are handled one after another, by whoever holds policy.calls. Many events share one picker.
type queue struct {
	start func() // has the queue drained; it returns at once

	mu        sync.Mutex
	events    []func()
	scheduled bool // somebody is about to drain it
}

// put appends an event. It may be called from anywhere and with any lock held.
func (q *queue) put(event func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	if !q.scheduled {
		q.scheduled = true
		q.start()
	}
}

// take returns all events. If there are none, the next one schedules.
func (q *queue) take() []func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	q.scheduled = len(events) > 0
	return events
}
