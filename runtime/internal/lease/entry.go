package lease

import (
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// want says where an entry is to be.
type want int

const (
	present want = iota // in etcd
	paused              // out of etcd, for now
	gone                // out of etcd, for good
)

// entry is a set of keys that are registered together, one for each layout.
type entry struct {
	items         []Item
	slots         []*slot // one for each item, then the retired ones
	want          want
	seq           int   // counts the changes of want by SetPaused, so that the later one wins
	wasRegistered bool  // since it was added or resumed
	refused       error // etcd's last refusal of a key
	state         State
	since         time.Time
	err           error
	leftover      error    // what the session left of it in etcd when it ended
	shown         news     // that changed has told of
	changed       notifier // of the next change of news
}

// add adds an entry. A key that another entry has is an error, unless that one is going.
func (c *core) add(now time.Time, items []Item, pause bool) (*entry, error) {
	e := &entry{items: items, since: now}
	if pause {
		e.want = paused
	}
	for _, item := range items {
		e.slots = append(e.slots, newSlot(item, c.lease))
	}
	for _, other := range c.entries {
		if err := e.inherit(other); err != nil {
			return nil, err
		}
	}
	c.entries = append(c.entries, e)
	c.changes = append(c.changes, change{key: e.key(), from: Initial, to: Registering})
	c.refreshEntry(now, e)
	return e, nil
}

// inherit takes over the keys of another entry that is going, so that its removal does not hit the new
// entry.
func (e *entry) inherit(other *entry) error {
	for i, s := range e.slots {
		j := slices.IndexFunc(other.slots, func(o *slot) bool { return o.key == s.key })
		if j < 0 {
			continue
		}
		if other.want != gone {
			return fmt.Errorf("key %q is already registered by this process", s.key)
		}
		e.slots[i] = other.slots[j]
		e.slots[i].adopt(s.value, s.leaving)
		other.slots = slices.Delete(other.slots, j, j+1)
	}
	return nil
}

// setWant changes where e is to be.
func (e *entry) setWant(w want) {
	if w == e.want {
		return
	}
	e.want = w
	e.wasRegistered = e.wasRegistered && w == present // after a pause it registers anew
	e.retry()
	for _, s := range e.slots {
		s.marked = false
		if w != present && s.has != ours {
			s.mayBeBack()
		}
	}
}

// retry forgets refusals, so that the keys are tried at once.
func (e *entry) retry() {
	e.refused = nil
	for _, s := range e.slots {
		s.retry()
	}
}

// update gives e new values under the same keys.
func (c *core) update(e *entry, items []Item) error {
	if len(items) != len(e.items) {
		return errors.New("an update cannot change the layouts")
	}
	for i, item := range items {
		if from, to := e.items[i].Key(c.lease), item.Key(c.lease); from != to {
			return fmt.Errorf("an update cannot change the key %q to %q: close the registration and register anew", from, to)
		}
	}
	e.items = items
	for i, item := range items {
		e.slots[i].value, e.slots[i].leaving = item.Value, item.Leaving
	}
	return nil
}

// rekey gives e the keys that it has on a lease. Keys that differ from the earlier ones replace them; those
// are retired, and count for the entry until they go.
func (e *entry) rekey(id clientv3.LeaseID) {
	for i, item := range e.items {
		old := e.slots[i]
		if item.Key(id) == old.key {
			continue
		}
		e.slots[i] = newSlot(item, id)
		e.slots[i].suspectAt, e.slots[i].suspicions = old.suspectAt, old.suspicions
		if old.placed() || !old.settled() {
			old.retired = true
			e.slots = append(e.slots, old)
		}
	}
}

// stateOf returns the state of an entry, and drops retired slots that are gone.
func (c *core) stateOf(now time.Time, e *entry) State {
	e.slots = slices.DeleteFunc(e.slots, func(s *slot) bool { return s.retired && !s.placed() && s.settled() })
	switch {
	case e.want == gone && !e.remains() && !c.undone():
		return Closed
	case e.want == paused && !e.remains() && !c.undone():
		return Paused
	case e.want != present && e.state == Registered && c.expired(now, e):
		return Lost // etcd has yet to say so
	case e.want != present:
		return e.state
	case e.conflicted():
		return Conflict
	case c.placed(now, e):
		return Registered
	case e.wasRegistered:
		return Lost
	}
	return Registering
}

// conflicted reports whether another process has a key of the entry.
func (e *entry) conflicted() bool {
	return slices.ContainsFunc(e.slots, func(s *slot) bool { return s.has == foreign })
}

// remains reports whether a key of the entry is in etcd or may be.
func (e *entry) remains() bool {
	return slices.ContainsFunc(e.slots, func(s *slot) bool { return s.placed() || !s.settled() })
}

// removable reports whether the entry is to go and has a key that etcd lets us delete.
func (e *entry) removable() bool {
	return e.want != present && slices.ContainsFunc(e.slots, func(s *slot) bool { return s.placed() && s.refused == nil })
}

// placed reports whether every key of the entry is in etcd on a lease that is kept, be it under its retired
// name.
func (c *core) placed(now time.Time, e *entry) bool {
	placed := 0
	for _, s := range e.slots {
		if s.placed() && c.kept(now, s.lease) {
			placed++
		}
	}
	return placed >= len(e.items)
}

// expired reports whether a key of the entry hangs on a lease that has expired, as far as known.
func (c *core) expired(now time.Time, e *entry) bool {
	return slices.ContainsFunc(e.slots, func(s *slot) bool { return s.placed() && !c.alive(now, s.lease) })
}

// moved reports whether every key of the entry hangs on a lease.
func (e *entry) moved(id clientv3.LeaseID) bool {
	return !slices.ContainsFunc(e.slots[:len(e.items)], func(s *slot) bool { return !s.on(id) })
}

// upToDate reports whether etcd has the entry as it is wanted.
func (e *entry) upToDate() bool {
	if e.want != present {
		return e.state == Paused || e.state == Closed
	}
	return e.state == Registered && !slices.ContainsFunc(e.slots[:len(e.items)], func(s *slot) bool {
		return !s.asWanted() || s.pending != nil || s.mustRead || slices.Contains(s.ambiguous, s.lease)
	})
}

// synced reports whether etcd has the entry as it is wanted. The error says why it is no use to wait.
func (e *entry) synced() (bool, error) {
	switch {
	case e.want == gone:
		return false, ErrDropped
	case e.state == Conflict:
		return false, e.err
	}
	return e.upToDate(), e.refused
}

// leaseOf returns the lease that an entry hangs on, or is to hang on.
func (c *core) leaseOf(e *entry) clientv3.LeaseID {
	if e.state == Closed {
		return 0
	}
	for _, s := range e.slots {
		if s.placed() {
			return s.lease
		}
	}
	return c.lease
}

// leftoverErr returns an error that names a key of the entry which may still be in etcd, and its lease.
func (e *entry) leftoverErr() error {
	for _, s := range e.slots {
		id := s.lease
		if !s.placed() && len(s.ambiguous) > 0 {
			id = s.ambiguous[0]
		}
		if id != 0 {
			return fmt.Errorf("key %q may stay in etcd until lease %x expires", s.key, int64(id))
		}
	}
	return fmt.Errorf("key %q may stay in etcd until its lease expires", e.key())
}

// key returns the first key of the entry, which names it in logs.
func (e *entry) key() string {
	if len(e.slots) == 0 {
		return ""
	}
	return e.slots[0].key
}

// news is what those who wait for an entry wait for.
type news struct {
	state          State
	seq            int
	synced, failed bool
}

// wake wakes those who wait for the entry, if there is news.
func (e *entry) wake() {
	ok, err := e.synced()
	now := news{e.state, e.seq, ok, err != nil}
	if now != e.shown {
		e.shown = now
		e.changed.notify()
	}
}
