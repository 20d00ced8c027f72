package lease

// notifier wakes the waiters for a change. It is guarded by the session's lock.
type notifier struct{ changed chan struct{} }

// next returns a channel that is closed at the next change.
func (n *notifier) next() <-chan struct{} {
	if n.changed == nil {
		n.changed = make(chan struct{})
	}
	return n.changed
}

// notify wakes the callers of next.
func (n *notifier) notify() {
	if n.changed != nil {
		close(n.changed)
		n.changed = nil
	}
}
