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
	quiet         bool  // see rests
	seq           int   // counts the calls of setPaused that changed want, so that the later one wins
	wasRegistered bool  // since it was added or resumed
	refused       error // etcd's last refusal of a key
	state         State
	since         time.Time
	err           error
	leftover      error    // what the session left of it in etcd when it ended
	shown         news     // that changed has told of
	changed       notifier // of the next change of news
}

// news is what those who wait for an entry wait for.
type news struct {
	state          State
	seq            int
	synced, failed bool
}

// change is one of an entry's state.
type change struct {
	key      string
	lease    clientv3.LeaseID
	from, to State
	err      error
}

func newEntry(now time.Time, items []Item, pause bool, lease clientv3.LeaseID) *entry {
	e := &entry{items: items, since: now}
	for _, item := range items {
		e.slots = append(e.slots, newSlot(item, lease))
	}
	if pause {
		e.setWant(paused)
	}
	return e
}

// inherit takes over the keys of another entry that is going, so that its removal does not hit the new
// entry.
func (e *entry) inherit(from *entry) {
	for i, s := range e.slots {
		j := slices.IndexFunc(from.slots, func(o *slot) bool { return o.key == s.key })
		if j < 0 || from.want != gone {
			continue
		}
		e.slots[i] = from.slots[j]
		e.slots[i].adopt(s.value, s.leaving)
		from.slots = slices.Delete(from.slots, j, j+1)
	}
}

// setWant changes where e is to be.
func (e *entry) setWant(w want) {
	if w == e.want {
		return
	}
	pauseEnds := e.want == paused && w == gone
	e.want = w
	e.wasRegistered = e.wasRegistered && w == present // after a pause it registers anew
	e.retry()
	for _, s := range e.slots {
		s.marked = s.marked && pauseEnds
		switch {
		case w == present && s.has == other: // who may have let go meanwhile
			s.readFrom(time.Time{})
		case w != present && s.has != self:
			s.mayBeBack()
		}
	}
}

// close has e removed with the session's leases.
func (e *entry) close() { e.want = gone }

// retry forgets refusals, so that the keys are tried at once.
func (e *entry) retry() {
	e.refused = nil
	for _, s := range e.slots {
		s.retry()
	}
}

// refuse takes in that etcd refuses a key.
func (e *entry) refuse(err error) { e.refused, e.err = err, err }

// accepted takes in that etcd took a key.
func (e *entry) accepted() {
	if !slices.ContainsFunc(e.slots, func(s *slot) bool { return s.refused != nil }) {
		e.refused = nil
	}
}

// fail notes why e is not in etcd as wanted.
func (e *entry) fail(err error) { e.err = err }

// setCause notes why e is not in etcd, unless another reason is known.
func (e *entry) setCause(err error) {
	if e.want == present && e.err == nil {
		e.err = err
	}
}

// update gives e new values under the same keys.
func (e *entry) update(items []Item, lease clientv3.LeaseID) error {
	if len(items) != len(e.items) {
		return errors.New("an update cannot change the layouts")
	}
	for i, item := range items {
		if from, to := e.items[i].Key(lease), item.Key(lease); from != to {
			return fmt.Errorf("an update cannot change the key %q to %q: close the registration and register anew", from, to)
		}
	}
	e.items = items
	for i, item := range items {
		e.slots[i].value, e.slots[i].leaving = item.Value, item.Leaving
	}
	return nil
}

// rekey gives e the keys that it has on a lease that was granted. Keys that differ from the earlier ones replace them;
// those are retired, and count for the entry until they go.
func (e *entry) rekey(id clientv3.LeaseID) {
	if e.want == gone {
		return
	}
	e.refused = nil
	for i, item := range e.items {
		old := e.slots[i]
		if item.Key(id) == old.key {
			continue
		}
		e.slots[i] = old.renamed(item, id)
		if old.placed() || !old.settled() {
			old.retired = true
			e.slots = append(e.slots, old)
		}
	}
}

// refresh brings the state up to date, and returns whether it has changed.
func (e *entry) refresh(now time.Time, l *leases) (c change, changed bool) {
	e.slots = slices.DeleteFunc(e.slots, func(s *slot) bool { return s.retired && !s.placed() && s.settled() })
	from, to := e.state, e.stateOf(now, l)
	e.wasRegistered = e.wasRegistered || e.want == present && to == Registered
	if to == Registered && e.upToDate() {
		e.refused = nil // nothing is left to be written
	}
	switch {
	case to == Conflict && e.want == present:
		e.err = e.conflict()
	case to == Paused || to == Registered && e.refused == nil:
		e.err = e.unverified()
	case to == Closed:
		e.err = e.leftover
	case to == Lost && e.err == nil:
		e.err = l.notRenewed(e.lapsed(now, l))
	}
	if to != from {
		e.state, e.since = to, now
	}
	e.wake()
	return change{e.key(), l.lease, from, to, e.err}, to != from
}

// end marks e closed, whether or not it is out of etcd. held says that the session leaves a lease.
func (e *entry) end(now time.Time, held bool) change {
	from := e.state
	if e.remains() && held {
		e.leftover = e.leftoverErr()
	}
	e.state, e.since, e.err = Closed, now, e.leftover
	e.wake()
	return change{e.key(), 0, from, Closed, e.err}
}

// stateOf returns the state of e.
func (e *entry) stateOf(now time.Time, l *leases) State {
	switch {
	case e.want == gone && !e.remains() && !l.undone():
		return Closed
	case e.want == paused && !e.remains() && !l.undone():
		return Paused
	case e.want != present && e.state == Registered && e.expired(now, l):
		return Lost // etcd has yet to say so
	case e.want != present:
		return e.state
	case e.conflicted():
		return Conflict
	case e.placed(now, l):
		return Registered
	case e.wasRegistered:
		return Lost
	}
	return Registering
}

// ended reports whether e is out of etcd for good, and otherwise why it is no use to wait for that now.
func (e *entry) ended() (bool, error) {
	if e.state == Closed {
		return true, nil // whatever etcd refused before
	}
	return false, e.refused
}

// conflicted reports whether another process has a key of the entry.
func (e *entry) conflicted() bool {
	return slices.ContainsFunc(e.slots, func(s *slot) bool { return s.has == other })
}

// conflict says which process has a key of the entry.
func (e *entry) conflict() error {
	return e.slots[slices.IndexFunc(e.slots, func(s *slot) bool { return s.has == other })].conflict()
}

// unverified returns an error if nobody can tell whether etcd has a key of the entry.
func (e *entry) unverified() error {
	i := slices.IndexFunc(e.slots, (*slot).unverified)
	if i < 0 {
		return nil
	}
	return fmt.Errorf("key %q: etcd does not let this process read it, so whether it is there is not known", e.slots[i].key)
}

// remains reports whether a key of the entry is in etcd or may be.
func (e *entry) remains() bool {
	return slices.ContainsFunc(e.slots, func(s *slot) bool { return s.placed() || !s.settled() })
}

// removable reports whether the entry is to go and has a key that etcd lets us delete.
func (e *entry) removable() bool {
	return e.want != present && slices.ContainsFunc(e.slots, func(s *slot) bool { return s.placed() && s.refused == nil })
}

// placed reports whether every key of the entry that is to be there is in etcd on a lease that is kept, be it under its
// retired name.
func (e *entry) placed(now time.Time, l *leases) bool {
	for i, item := range e.items {
		if !slices.ContainsFunc(e.slots, func(s *slot) bool {
			named := s == e.slots[i] || s.retired && s.key == item.Key(s.lease)
			return named && s.placed() && l.kept(now, s.lease)
		}) {
			return false
		}
	}
	return true
}

// expired reports whether a key of the entry hangs on a lease that has expired, as far as known.
func (e *entry) expired(now time.Time, l *leases) bool {
	return e.lapsed(now, l) != 0
}

// lapsed returns the lease of such a key, 0 if there is none.
func (e *entry) lapsed(now time.Time, l *leases) clientv3.LeaseID {
	if i := slices.IndexFunc(e.slots, func(s *slot) bool { return s.placed() && !l.alive(now, s.lease) }); i >= 0 {
		return e.slots[i].lease
	}
	return 0
}

// holds reports whether the entry is wanted, and keys of it have yet to move from a lease to the current one.
func (e *entry) holds(id, current clientv3.LeaseID) bool {
	return e.want == present && slices.ContainsFunc(e.slots[:len(e.items)], func(s *slot) bool { return !s.on(current) }) &&
		slices.ContainsFunc(e.slots, func(s *slot) bool { return s.on(id) })
}

// needsPut reports whether a wanted key is to be put now, on a lease. An entry that has lost a key to another process puts
// none, and gives up the others, until that one is free: a process has all keys of an instance or none.
func (e *entry) needsPut(now time.Time, s *slot, on clientv3.LeaseID) bool {
	return e.want == present && !e.conflicted() && !s.retired && !now.Before(s.notBefore) && !(s.on(on) && s.asWanted())
}

// upToDate reports whether etcd has the entry as it is wanted.
func (e *entry) upToDate() bool {
	if e.want != present {
		return e.state == Paused || e.state == Closed
	}
	return e.state == Registered && !slices.ContainsFunc(e.slots[:len(e.items)], func(s *slot) bool { return !s.upToDate() })
}

// rests reports whether there is nothing to do for the entry until something is heard of its keys or its lease, the
// current one.
func (e *entry) rests(current clientv3.LeaseID) bool {
	return e.want == present && e.upToDate() && e.refused == nil && len(e.slots) == len(e.items) &&
		!slices.ContainsFunc(e.slots, func(s *slot) bool { return !s.on(current) || !s.settled() })
}

func (e *entry) closed() bool { return e.state == Closed }

// synced reports whether etcd has the entry as it is wanted. The error says why it is no use to wait.
func (e *entry) synced() (bool, error) {
	switch {
	case e.want == gone:
		return false, ErrDropped
	case e.state == Conflict && e.want == present && !slices.ContainsFunc(e.slots, func(s *slot) bool { return s.mustRead }):
		return false, e.err
	}
	return e.upToDate(), e.refused
}

// leaseOf returns the lease that an entry hangs on, or is to hang on.
func (e *entry) leaseOf(current clientv3.LeaseID) clientv3.LeaseID {
	if e.state == Closed {
		return 0
	}
	for _, s := range e.slots {
		if s.placed() {
			return s.lease
		}
	}
	return current
}

// leftoverErr returns an error that names a key of the entry which may still be in etcd, and its lease.
func (e *entry) leftoverErr() error {
	for _, s := range e.slots {
		id := s.lease
		if !s.placed() {
			id = 0
			if len(s.ambiguous) > 0 {
				id = s.ambiguous[0]
			}
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

// wake wakes those who wait for the entry, if there is news.
func (e *entry) wake() {
	ok, err := e.synced()
	now := news{e.state, e.seq, ok, err != nil}
	if now != e.shown {
		e.shown = now
		e.changed.notify()
	}
}
