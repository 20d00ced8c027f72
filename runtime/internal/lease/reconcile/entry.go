package reconcile

import (
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// ErrDropped is the error of an entry's methods after its Drop or Close.
var ErrDropped = errors.New("the registration is closed")

// State is the state of an entry.
type State int

// The states of an entry.
const (
	Registering State = iota // not in etcd yet
	Registered               // in etcd, on a lease that is being renewed

	// was in etcd, is not there as far as known, and is being put back or
	// withdrawn
	Lost

	// another process holds a key of the entry, which is written again once the
	// key is free
	Conflict
	Paused // taken out of etcd on request
	Closed // taken out of etcd for good

	Initial State = -1 // before the first state; only a Change has it
)

func (s State) String() string {
	names := [...]string{"registering", "registered", "lost", "conflict", "paused",
		"closed"}
	if s < 0 || int(s) >= len(names) {
		return fmt.Sprintf("State(%d)", int(s))
	}

	return names[s]
}

// Status is the state of an entry at one moment.
type Status struct {
	State State
	Key   string           // the first key of the entry
	Lease clientv3.LeaseID // 0 if the entry has no lease now
	Err   error            // why the entry is not registered
	Since time.Time        // when State was entered
}

// Item is one key of an entry and its value.
type Item struct {
	// a pure function of the key's lease; most keys do not depend on it
	Key func(clientv3.LeaseID) string

	Value string

	// Leaving replaces Value just before the key is deleted. It has the mark of
	// leaving, by which readers see the coming deletion. It is "" if the layout
	// has no room for the mark.
	Leaving string
}

// desired is the desired state of an entry.
type desired int

const (
	present desired = iota // in etcd
	paused                 // out of etcd, for now
	gone                   // out of etcd, for good
)

// Owner is a caller's side of an entry. The core calls Changed when the entry's
// state may have changed.
type Owner interface{ Changed() }

// Entry is a set of keys that are registered together, one for each layout.
type Entry struct {
	items   []Item
	records []*record // one for each item, then the retired ones
	desired desired
	owner   Owner // nil for a stray, a key on our lease that no other entry has
	dirty   bool  // the entry is in core.dirty

	// until when the mark may delay the deletion of the keys; zero once etcd
	// has refused the mark
	markUntil time.Time

	refused error // etcd's last refusal of a key
	state   State
	since   time.Time

	// why the keys were lost; after the end of the session, which key may
	// remain
	why error
}

// Change is a change of an entry's state.
type Change struct {
	Owner  Owner
	From   State
	Status // after the change
}

// setDesired changes the desired state of e.
func (e *Entry) setDesired(now time.Time, to desired) {
	if to == e.desired {
		return
	}

	if e.desired == present {
		e.markUntil = now.Add(markTimeout)
	}

	e.desired = to
	e.retry()

	// another process's key may be gone by now, or a restore may have brought
	// ours back
	for _, r := range e.records {
		if r.claimed() && revOf(r.observed) != r.putRev {
			r.doubted = true
		}
	}
}

// retry forgets refusals, so that the keys are tried at once.
func (e *Entry) retry() {
	e.refused = nil

	for _, r := range e.records {
		r.retry()
	}
}

// key returns the first key of the entry, which names it in logs. An entry that
// has given its keys up to another has no records.
func (e *Entry) key() string {
	if len(e.records) == 0 {
		return e.items[0].Key(clientv3.NoLease)
	}

	return e.records[0].key
}

func (e *Entry) notify() {
	if e.owner != nil {
		e.owner.Changed()
	}
}

// wasRegistered reports whether e was in etcd since it was added or resumed.
func (e *Entry) wasRegistered() bool {
	return e.state == Registered || e.state == Lost || e.state == Conflict
}

// Dropped reports whether e was closed or dropped: then it does not change any
// more.
func (e *Entry) Dropped() bool {
	return e.desired == gone
}

// Ended reports whether e is out of etcd for good. The error says why it is
// useless to wait for that now.
func (e *Entry) Ended() (bool, error) {
	if e.state == Closed {
		return true, nil // earlier refusals do not matter
	}

	return false, e.refused
}

// refreshEntry updates the state of an entry, and gives up keys that are out of
// etcd for good.
func (c *Core) refreshEntry(now time.Time, e *Entry) {
	from := e.state
	to := c.stateOf(now, e)
	e.state = to

	e.records = slices.DeleteFunc(e.records, func(r *record) bool {
		drop := r.retired && r.observed == nil && r.sure()
		if (drop || to == Closed) && c.keys[r.key] == r {
			delete(c.keys, r.key)
		}

		return drop
	})

	refused := func(r *record) bool { return r.refused != nil }
	if c.upToDate(e) && !slices.ContainsFunc(e.records, refused) {
		e.refused = nil // nothing remains to be written
	}

	if to == Closed || to == Paused || to == Registered {
		e.why = nil
	}

	if to != from {
		e.since = now
		c.recordChange(now, e, from)
	}

	e.notify()
}

// recordChange queues a change of an entry's state for report, unless the entry
// is a stray, which no caller knows.
func (c *Core) recordChange(now time.Time, e *Entry, from State) {
	if e.owner != nil {
		c.changes = append(c.changes, Change{e.owner, from, c.Status(now, e)})
	}
}

// errOf returns why e is not in etcd as desired, nil if it is or the reason is
// not known.
func (c *Core) errOf(now time.Time, e *Entry) error {
	r := c.conflict(e)
	id := c.leaseOf(e)
	switch {
	case e.state == Closed || e.state == Paused:
		return e.why
	case e.state == Conflict && r != nil:
		return r.conflict()
	case e.refused != nil || e.state == Registered:
		return e.refused
	case e.state == Lost && id != 0 && !c.alive(now, id):
		return etcderr.With(fmt.Errorf("lease %x was not renewed in time", id),
			c.health.err)
	case c.health.err != nil:
		return c.health.err
	case e.state == Lost && e.why == nil:
		return fmt.Errorf("key %q is not in etcd", e.key())
	}

	return e.why
}

// Status returns the status of an entry now.
func (c *Core) Status(now time.Time, e *Entry) Status {
	id := c.leaseOf(e)
	err := c.errOf(now, e)
	if err == nil && e.state == Registered {
		err = c.overdue(now, id)
	}

	return Status{e.state, e.key(), id, err, e.since}
}

// stateOf returns the state of e.
func (c *Core) stateOf(now time.Time, e *Entry) State {
	switch {
	case e.desired != present && c.remains(e):
		id := c.leaseOf(e)
		if e.state == Registered && id != 0 && !c.alive(now, id) {
			return Lost // etcd has yet to confirm the loss
		}

		return e.state

	case e.desired == gone:
		return Closed
	case e.desired == paused:
		return Paused
	case c.conflict(e) != nil:
		return Conflict
	case c.placed(now, e):
		return Registered
	case e.wasRegistered():
		return Lost
	}

	return Registering
}

// foreign reports whether a key is another process's, as observed.
func (c *Core) foreign(r *record) bool {
	return r.observed != nil && !c.isOwn(r.observed.Lease)
}

// ours reports whether a key is this session's, as observed.
func (c *Core) ours(r *record) bool {
	return r.observed != nil && c.isOwn(r.observed.Lease)
}

// conflict returns a key of the entry that a newer process has, nil if there is
// none.
func (c *Core) conflict(e *Entry) *record {
	for _, r := range e.records {
		if r.claimed() && !r.retired && c.foreign(r) {
			return r
		}
	}

	return nil
}

// placed reports whether each item of the entry has a key, retired or not, in
// etcd on a live lease.
func (c *Core) placed(now time.Time, e *Entry) bool {
	return e.all(func(r *record) bool {
		return r.observed != nil &&
			c.alive(now, r.observed.Lease) &&
			!c.get(r.observed.Lease).revoking()
	})
}

// placedOn reports whether each item of the entry has a key in etcd on lease
// id.
func (c *Core) placedOn(e *Entry, id clientv3.LeaseID) bool {
	return id != 0 && e.all(func(r *record) bool { return r.on(id) })
}

// all reports whether each item has a record that satisfies test.
func (e *Entry) all(test func(*record) bool) bool {
	for i := range e.items {
		if !slices.ContainsFunc(e.records, func(r *record) bool {
			return r.item == i && test(r)
		}) {
			return false
		}
	}

	return true
}

// remains reports whether etcd has, or may have, a key of the entry from this
// session.
func (c *Core) remains(e *Entry) bool {
	return slices.ContainsFunc(e.records, func(r *record) bool {
		return c.ours(r) || !r.sure()
	})
}

// upToDate reports whether etcd has the entry as desired.
func (c *Core) upToDate(e *Entry) bool {
	if e.desired != present {
		return e.state == Paused || e.state == Closed
	}

	outdated := func(r *record) bool { return !r.asDesired() }

	return e.state == Registered &&
		!slices.ContainsFunc(e.records[:len(e.items)], outdated)
}

// clean reports whether the entry needs no call until the next event of its
// keys or its lease.
func (c *Core) clean(e *Entry) bool {
	return e.desired == present &&
		c.upToDate(e) &&
		e.refused == nil &&
		len(e.records) == len(e.items) &&
		c.placedOn(e, c.lease)
}

// Synced reports whether etcd has the entry as desired. The error says why it
// is useless to wait for that.
func (c *Core) Synced(e *Entry) (bool, error) {
	if e.desired == gone {
		return false, ErrDropped
	}

	r := c.conflict(e)
	if r != nil && e.desired == present && !slices.ContainsFunc(e.records, isDoubted) {
		return false, r.conflict()
	}

	return c.upToDate(e), e.refused
}

// leaseOf returns the lease that a key of an entry is on, or else the current
// lease. It returns 0 for a closed entry.
func (c *Core) leaseOf(e *Entry) clientv3.LeaseID {
	if e.state == Closed {
		return 0
	}

	for _, r := range e.records {
		if c.ours(r) {
			return r.observed.Lease
		}
	}

	return c.lease
}

// LeftoverErr returns an error that names a key of the entry which may still be
// in etcd, and its lease.
func (c *Core) LeftoverErr(e *Entry) error {
	for _, r := range e.records {
		if c.ours(r) {
			return fmt.Errorf("key %q may stay in etcd until lease %x expires", r.key,
				r.observed.Lease)
		}
	}

	return fmt.Errorf("key %q may stay in etcd until its lease expires", e.key())
}
