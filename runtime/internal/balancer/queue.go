package balancer

import (
	"sync"
	"time"
)

// slice bounds how long events are handled in one go, so that gRPC's calls need not wait for all. Some of
// gRPC's policies do work for all their endpoints whenever one changes: if thousands of connections
// become ready at once, that takes seconds.
const slice = 20 * time.Millisecond

// queue holds events until they are handled one after another, by whoever holds policy.calls.
type queue struct {
	start func() // has the queue drained, called in a goroutine of its own

	mu        sync.Mutex
	urgent    []func()
	events    []func()
	scheduled bool // a goroutine is about to drain it
}

// put appends an event. It may be called from anywhere and with any lock held.
func (q *queue) put(event func()) { q.append(&q.events, event) }

// putFirst appends an event that does not wait for the events of put: a policy's new picker is in force
// soon, however many SubConns have news.
func (q *queue) putFirst(event func()) { q.append(&q.urgent, event) }

func (q *queue) append(to *[]func(), event func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*to = append(*to, event)
	if !q.scheduled {
		q.scheduled = true
		go q.start()
	}
}

// claim says that the caller will drain the queue, so that nothing else is started for it.
func (q *queue) claim() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.scheduled = true
}

// drain handles events until there are none, or for a slice of time; then it leaves the rest to another
// goroutine.
func (q *queue) drain() {
	for end := time.Now().Add(slice); ; {
		urgent, events := q.take()
		if len(urgent)+len(events) == 0 {
			return
		}
		for _, event := range urgent {
			event()
		}
		for i, event := range events {
			event()
			if time.Now().After(end) {
				for _, event := range q.putBack(events[i+1:]) {
					event()
				}
				return
			}
		}
	}
}

// take returns all events. If there are none, the claim ends.
func (q *queue) take() (urgent, events []func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	urgent, q.urgent = q.urgent, nil
	events, q.events = q.events, nil
	q.scheduled = len(urgent)+len(events) > 0
	return urgent, events
}

// putBack returns events to the front of the queue for another goroutine to handle, and takes the urgent
// ones.
func (q *queue) putBack(events []func()) (urgent []func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	urgent, q.urgent = q.urgent, nil
	q.events = append(events, q.events...)
	q.scheduled = true
	go q.start()
	return urgent
}
