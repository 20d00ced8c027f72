// Package events hands events, which happen anywhere and at any time, to whoever handles them one after another.
package events

import "sync"

// Queue holds events until they are handled. It is safe for concurrent use.
type Queue struct {
	start func() // has the queue emptied; it returns at once

	mu        sync.Mutex
	events    []func()
	scheduled bool // somebody is about to empty it
}

// NewQueue returns a queue. start is called with a lock held when there is something to handle: it must return at once, and
// have [Queue.All] called until that returns nothing.
func NewQueue(start func()) *Queue { return &Queue{start: start} }

// Put appends an event. It may be called with any lock held.
func (q *Queue) Put(event func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, event)
	if !q.scheduled {
		q.scheduled = true
		q.start()
	}
}

// All removes and returns all events. If there are none, the next one calls start again.
func (q *Queue) All() []func() {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	q.scheduled = len(events) > 0
	return events
}
