package healthcheck

import (
	"slices"
	"sync"
)

// inbox is a queue of events for the core. It never blocks a sender: a health service may send while it holds a
// lock that report needs. It has at most three events of a service.
type inbox struct {
	filled chan struct{} // has a value while there are events

	mu     sync.Mutex
	events []event
}

func newInbox() *inbox { return &inbox{filled: make(chan struct{}, 1)} }

// put adds an event. A status that a Watch sends replaces the one before.
func (b *inbox) put(e event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.IndexFunc(b.events, func(old event) bool { return old.kind == eventSent && old.service == e.service })
	if e.kind == eventSent && i >= 0 {
		b.events[i] = e
		return
	}
	b.events = append(b.events, e)
	b.signal()
}

// take removes and returns the first event. It must be called once for each value received from filled.
func (b *inbox) take() event {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.events[0]
	b.events = b.events[1:]
	b.signal()
	return e
}

// signal must be called with mu held.
func (b *inbox) signal() {
	if len(b.events) == 0 {
		return
	}
	select {
	case b.filled <- struct{}{}:
	default:
	}
}
