// Package reconcile decides how a process's desired keys stay in etcd, on one
// lease. It makes no call and reads no clock.
//
// [Core] compares the desired with the observed state of each key, and asks for
// calls until the two are the same:
//
//	record.go  one key: its observed value, and whether that is in doubt
//	entry.go   the callers' types, and the keys that are registered together
//	leases.go  the leases of a session: granted, renewed, retired, revoked
//	core.go    all entries and leases, and the times of checks
//	next.go    the calls to etcd, and the choice of the next one
//	events.go  the answers of etcd
package reconcile

import (
	"cmp"
	"errors"
	"iter"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/loglimit"
)

const (
	// tick is the longest time that the session's goroutine waits.
	tick = time.Second

	// checkWatched and checkUnwatched bound the pause between checks of our
	// keys. checkWatched applies while every key is watched: a watch may break
	// silently, so checks continue. checkMin is the shortest pause.
	checkWatched   = 5 * time.Minute
	checkUnwatched = 2 * time.Second
	checkMin       = 200 * time.Millisecond

	// warnEvery is the time between two warnings of the same failures.
	warnEvery = time.Minute

	// MaxWatches is the maximum number of keys that a session watches. A
	// process with a hundred services must not have a hundred watches. With
	// more keys, the watched ones show the loss of the lease, and all keys are
	// checked often.
	MaxWatches = 4
)

// Core reconciles etcd with the entries of a session. Each event records an
// answer of etcd or a caller's desired entry, and makes the entry dirty. Next
// compares the desired with the observed state of the dirty entries, and
// returns one call.
type Core struct {
	jitter jitterFunc

	entries []*Entry

	// entries that may differ from etcd; a new registration visits only these
	dirty []*Entry

	keys    map[string]*record // the records of all entries, by key
	closing bool               // Close was called: no entry is desired

	lease       clientv3.LeaseID   // the current lease, 0 if there is none
	held        []*heldLease       // the current lease and the retired ones
	everGranted []clientv3.LeaseID // every lease that was ever granted to this session

	calls  gate // delays all calls
	grants gate
	moves  gate // delays moves to another lease after a denied write
	puts   gate // shut while etcd is full

	check    check
	health   health
	revision int64 // the revision of the last transaction's answer

	// an entry was withdrawn since the last call began, so that a call which
	// removes nothing gives way
	hurry bool

	warned   time.Time        // the time of the last warning
	lines    loglimit.Limiter // limits warnings
	changes  []Change
	warnings []Warning
}

// Take returns the changes and warnings since the last call of Take.
func (c *Core) Take() (changes []Change, warnings []Warning) {
	changes = c.changes
	warnings = c.warnings
	c.changes = nil
	c.warnings = nil

	return changes, warnings
}

// check compares our keys with etcd's from time to time, batch by batch.
type check struct {
	due     time.Time // when the next check is due
	began   time.Time // when the last check began
	rest    []*record // the keys that the check under way has yet to read
	watched bool      // every key is watched, so that checks are rare
}

// health is how etcd answers.
type health struct {
	took  time.Duration // how long etcd took for its last answer
	hung  int           // the calls without an answer since then
	since time.Time     // the time of the first failure since then, zero without one
	err   error         // the error of the last call, nil if it succeeded
}

// New returns a core.
func New(jitter jitterFunc) *Core {
	return &Core{
		jitter: jitter,
		keys:   make(map[string]*record),
		calls:  gateOf(50*time.Millisecond, time.Second),
		grants: gateOf(200*time.Millisecond, time.Second),
		moves:  gateOf(10*time.Second, time.Hour),
		puts:   gateOf(500*time.Millisecond, 2*time.Second),
	}
}

// jitterFunc shortens a pause at random.
type jitterFunc func(time.Duration) time.Duration

// gate delays the next try of an operation, with a backoff.
type gate struct {
	at      time.Time
	backoff backoff.Backoff
}

func gateOf(base, most time.Duration) gate {
	return gate{backoff: backoff.Backoff{Base: base, Max: most}}
}

// shut delays the next try by the backoff.
func (g *gate) shut(now time.Time, jitter jitterFunc) {
	g.at = now.Add(jitter(g.backoff.Bound()))
}

// open allows the next try now, and resets the backoff.
func (g *gate) open() {
	g.at = time.Time{}
	g.backoff.Reset()
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}

	return b
}

// markDirty makes Next look at an entry.
func (c *Core) markDirty(e *Entry) {
	if !e.dirty {
		e.dirty = true
		c.dirty = append(c.dirty, e)
	}
}

func (c *Core) markAllDirty() {
	for _, e := range c.entries {
		c.markDirty(e)
	}
}

// records returns the records of the dirty entries.
func (c *Core) records() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, e := range c.dirty {
			for _, r := range e.records {
				if !yield(r) {
					return
				}
			}
		}
	}
}

// some reports whether a record of a dirty entry satisfies test.
func (c *Core) some(test func(*record) bool) bool {
	return slices.ContainsFunc(c.dirty, func(e *Entry) bool {
		return slices.ContainsFunc(e.records, test)
	})
}

// Add adds an entry, which takes over keys of entries that are being removed.
// No other entry may have its keys. It returns nil after Close.
func (c *Core) Add(now time.Time, owner Owner, items []Item, pause bool) *Entry {
	if c.closing {
		return nil
	}

	e := &Entry{owner: owner, items: items, since: now}
	for i := range items {
		e.records = append(e.records, c.record(e, i))
	}

	if pause {
		e.setDesired(now, paused)
	}

	c.entries = append(c.entries, e)
	c.markDirty(e)
	c.recordChange(now, e, Initial)
	c.refreshEntry(now, e)

	return e
}

// record returns the record of an item's key on the current lease. If an
// earlier entry that is being removed has the record, e takes it over, so that
// the removal does not delete the key of e.
func (c *Core) record(e *Entry, item int) *record {
	key := e.items[item].Key(c.lease)
	r := c.keys[key]
	if r == nil {
		r = newRecord(e, item, key)
		c.keys[key] = r

		return r
	}

	if owner := r.e; owner != e {
		owner.records = slices.DeleteFunc(owner.records, func(o *record) bool {
			return o == r
		})
		c.markDirty(owner)
	}

	r.e = e
	r.item = item
	r.retired = false
	r.putRev = 0 // the new entry takes the key over from any holder
	r.retry()

	return r
}

// rekey replaces an entry's keys that contain the id of an earlier lease. The
// old keys are retired, and keep their records until they are deleted.
func (c *Core) rekey(e *Entry) {
	if e.desired == gone {
		return
	}

	e.refused = nil

	for i, item := range e.items {
		if old := e.records[i]; item.Key(c.lease) != old.key {
			old.retired = true
			e.records = append(e.records, old)
			e.records[i] = c.record(e, i)
		}
	}
}

// setDesired changes the desired state of an entry.
func (c *Core) setDesired(now time.Time, e *Entry, to desired) {
	e.setDesired(now, to)
	c.hurry = c.hurry || to != present
	c.markDirty(e)
	c.refreshEntry(now, e)
}

// SetPaused removes an entry from etcd, or puts it back, and reports whether
// that is a change. Even a call that changes nothing retries writes that etcd
// refused.
func (c *Core) SetPaused(now time.Time, e *Entry, pause bool) (changed bool) {
	from := e.desired

	to := present
	if pause {
		to = paused
	}

	e.retry()
	c.setDesired(now, e, to)

	return to != from
}

// Drop removes an entry from etcd for good.
func (c *Core) Drop(now time.Time, e *Entry) {
	c.setDesired(now, e, gone)
}

// Update gives an entry new values. Its keys stay the same.
func (c *Core) Update(now time.Time, e *Entry, items []Item) {
	e.items = items
	e.retry()
	c.markDirty(e)
	c.refreshEntry(now, e)
}

// refresh updates the states of the dirty entries. It removes closed entries,
// and removes entries that need no call from c.dirty.
func (c *Core) refresh(now time.Time) {
	if !c.alive(now, c.lease) {
		c.markAllDirty()
	}

	for _, e := range c.dirty {
		c.refreshEntry(now, e)
	}

	closed := func(e *Entry) bool { return e.state == Closed }
	if slices.ContainsFunc(c.dirty, closed) {
		c.entries = slices.DeleteFunc(c.entries, closed)
	}

	c.dirty = slices.DeleteFunc(c.dirty, func(e *Entry) bool {
		e.dirty = e.state != Closed && !c.clean(e)
		return !e.dirty
	})
}

// leaseNeeded reports whether any entry needs a lease: a present one or, if
// last is paused, a paused one. Only a present entry needs a grant. A granted
// lease is kept for paused entries, too, so that one put brings an entry back.
// Entries that are not dirty are present.
func (c *Core) leaseNeeded(last desired) bool {
	return len(c.entries) > len(c.dirty) ||
		slices.ContainsFunc(c.dirty, func(e *Entry) bool { return e.desired <= last })
}

// CheckSoon makes the periodic checks due now, at most once in checkMin.
func (c *Core) CheckSoon(now time.Time) {
	c.check.due = latest(now, c.check.began.Add(checkMin))
	for _, h := range c.held {
		if h.ask != nil {
			h.ask.at = c.check.due
		}
	}

	for r := range c.records() {
		if r.claimed() && c.foreign(r) {
			r.gate.at = c.check.due
		}
	}
}

// OnReconnect makes renewals and checks due: the connection may lead to another
// etcd. No check is needed if all keys are watched: the watches notice it.
func (c *Core) OnReconnect(now time.Time) {
	for _, h := range c.held {
		h.renewAt = now
	}

	if !c.check.watched {
		c.CheckSoon(now)
	}
}

func (c *Core) scheduleCheck(now time.Time) {
	every := checkUnwatched
	if c.check.watched {
		every = checkWatched
	}

	c.check.due = now.Add(c.jitter(every))
}

// continueCheck drops the keys that the check under way need not read any more.
// If none remain and a check is due, it begins the next one.
func (c *Core) continueCheck(now time.Time) {
	c.check.rest = slices.DeleteFunc(c.check.rest, func(r *record) bool {
		return !c.checkable(now, r)
	})
	if len(c.check.rest) > 0 || now.Before(c.check.due) {
		return
	}

	c.scheduleCheck(now)

	for _, e := range c.entries {
		for _, r := range e.records {
			if c.checkable(now, r) {
				c.check.rest = append(c.check.rest, r)
				c.check.began = now
			}
		}
	}
}

// checkable reports whether a check reads a key. It does not read a key whose
// write waits after a refusal: a refused read would delay the write further.
func (c *Core) checkable(now time.Time, r *record) bool {
	return r.e.desired == present &&
		c.ours(r) &&
		(r.asDesired() || !now.Before(r.gate.at))
}

// RegisteredKeys returns up to limit keys of desired entries that are or were
// registered.
func (c *Core) RegisteredKeys(limit int) (keys []string) {
	for _, e := range c.entries {
		for _, r := range e.records {
			if len(keys) == limit || c.closing {
				return keys
			}

			if e.wasRegistered() && e.desired == present && !r.retired {
				keys = append(keys, r.key)
			}
		}
	}

	return keys
}

// SetWatched records whether all keys are watched. A check is due when a watch
// is lost.
func (c *Core) SetWatched(now time.Time, watched bool) {
	watched = watched && len(c.RegisteredKeys(MaxWatches+1)) <= MaxWatches
	if c.check.watched && !watched {
		c.check.due = now
	}

	c.check.watched = watched
}

// cause records why the dirty entries lose their keys.
func (c *Core) cause(why error) {
	for _, e := range c.dirty {
		e.why = why
	}
}

// Warning is a log line about a failure that keeps entries out of etcd.
type Warning struct {
	Key    string
	Others int // the number of further entries that are kept out
	Err    error
}

// warn queues a warning about the affected entries, which etcd does not have as
// desired. The warning names the entry whose state changed last. If that change
// is newer than the last warning, it is queued at once, otherwise at most once
// in warnEvery. Its error is etcd's refusal of that entry or, without one, err.
func (c *Core) warn(now time.Time, err error, affected func(*Entry) bool) {
	var last *Entry

	others := -1
	for _, e := range c.entries {
		if e.desired == present && affected(e) {
			others++

			if last == nil || e.since.After(last.since) {
				last = e
			}
		}
	}

	if last == nil {
		return
	}

	if !last.since.After(c.warned) && now.Before(c.warned.Add(warnEvery)) {
		return
	}

	if ok, _ := c.lines.Allow(now); ok {
		c.warned = now
		c.warnings = append(c.warnings,
			Warning{last.key(), others, cmp.Or(last.refused, err)})
	}
}

func unregistered(e *Entry) bool {
	return e.state != Registered
}

func wasRefused(e *Entry) bool {
	return e.refused != nil
}

func (c *Core) succeeded() {
	c.calls.open()
	c.health.err = nil
	c.health.since = time.Time{}
}

// failed records a temporary failure, and delays all calls. A call that gave
// way has not failed.
func (c *Core) failed(now time.Time, err error) {
	if errors.Is(err, ErrGaveWay) {
		return
	}

	c.calls.shut(now, c.jitter)
	c.health.err = err

	if c.health.since.IsZero() {
		c.health.since = now
	}

	c.warn(now, err, unregistered)
}

// atRevision records the revision of a transaction's answer. A revision below
// the last one shows that etcd was restored from a backup or replaced. Answers
// to revocations do not count: no call waits for them, so a later call's answer
// may come first. 0 is ignored: a caller's wrapper of the client may omit the
// revision.
func (c *Core) atRevision(revision int64) {
	if revision == 0 {
		return
	}

	restored := revision < c.revision
	c.revision = revision

	if restored {
		c.onRestored()
	}
}

// Close makes all entries undesired.
func (c *Core) Close(now time.Time) {
	c.closing = true
	c.hurry = true

	for _, h := range c.held {
		h.denied = false
		h.revokeAt = time.Time{} // the permission may have been granted since
	}

	for _, e := range c.entries {
		e.setDesired(now, gone)
	}

	c.markAllDirty()
	c.refresh(now)
}

// Finished reports whether a closing session has nothing more to do.
func (c *Core) Finished() bool {
	revocable := func(h *heldLease) bool { return !h.denied }
	if !c.closing || slices.ContainsFunc(c.held, revocable) {
		return false
	}

	return !c.some(func(r *record) bool {
		return c.ours(r) && r.refused == nil
	})
}

// End closes every entry, whether or not it is out of etcd.
func (c *Core) End(now time.Time) {
	c.closing = true
	c.lease = 0

	for _, e := range c.entries {
		if e.state == Closed {
			continue
		}

		e.why = nil
		if c.remains(e) && len(c.held) > 0 {
			e.why = c.LeftoverErr(e)
		}

		from := e.state
		e.desired = gone
		e.state = Closed
		e.since = now
		e.notify()
		c.recordChange(now, e, from)
	}

	c.entries = nil
	c.dirty = nil
}
