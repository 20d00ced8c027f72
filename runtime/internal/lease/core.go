package lease

import (
	"iter"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

const (
	// checkUnwatched spaces the checks of our keys; checkWatched does where watches tell of changes, checkHidden where
	// nothing tells beside that the connection to etcd is another, and checkIdle where there is no lease. All are the upper
	// end of a jittered pause.
	checkUnwatched = 2 * time.Second
	checkWatched   = 30 * time.Second
	checkHidden    = 10 * time.Second
	checkIdle      = time.Minute
	// complainEvery is the least time between two complaints about the same.
	complainEvery = time.Minute
)

// core holds the wants of a session and its knowledge of etcd. Method next returns the call to make; the other
// methods take in outcomes. The core compares etcd with the wants key by key. Whatever a write to the key
// cannot put right it cures by replacing the lease: the keys move to another one, and revoking the old one
// undoes all writes on it, also those that have yet to arrive.
type core struct {
	leases
	entries []*entry
	busy    []*entry // those that are not quiet: to register one more takes no step over the others
	ground  ground   // that the quiet ones stand on
	closing bool     // no entry is wanted any more

	retryAt time.Time // no call before
	retry   backoff.Backoff
	putsAt  time.Time // no put before, because etcd is full
	full    backoff.Backoff

	faultAt   time.Time // no lease is replaced before because a put was denied
	writeSize batchSize // of transactions that write
	readSize  batchSize // of transactions that read

	checkAt   time.Time // when the next check of the keys is due
	checkedAt time.Time // when the last one began
	queue     []probe   // the rest of the check that is under way
	watched   bool      // every key is watched
	hidden    bool      // nobody calls reconnected
	revision  int64     // of etcd's last answer

	lastWall   time.Time    // the wall clock when the wait began; zero: there was none
	silent     time.Time    // when a call failed first since etcd answered one; zero: it answered the last
	silence    error        // of the last call that failed
	complainAt [2]time.Time // no complaint before: about etcd that does not answer, about one that refuses
	changes    []change
	complaints []complaint
}

// newCore returns a core. jitter shortens a pause at random.
func newCore(ttl time.Duration, jitter func(time.Duration) time.Duration) *core {
	return &core{
		leases:    newLeases(ttl, jitter),
		retry:     backoff.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
		full:      backoff.Backoff{Base: 500 * time.Millisecond, Max: 2 * time.Second},
		writeSize: MaxOps, readSize: MaxOps,
	}
}

// ground is what keeps an entry registered of which nothing is heard.
type ground struct {
	lease clientv3.LeaseID
	kept  bool
}

// rouse has an entry looked at that may be quiet no longer.
func (c *core) rouse(e *entry) {
	if e != nil && e.quiet {
		e.quiet = false
		c.busy = append(c.busy, e)
	}
}

func (c *core) rouseAll() {
	for _, e := range c.entries {
		e.quiet = false
	}
	c.busy = slices.Clone(c.entries)
}

// slots returns all keys with their entries.
func (c *core) slots() iter.Seq2[*entry, *slot] { return slotsOf(c.entries) }

// busySlots returns the keys of the entries that are not quiet.
func (c *core) busySlots() iter.Seq2[*entry, *slot] { return slotsOf(c.busy) }

func slotsOf(entries []*entry) iter.Seq2[*entry, *slot] {
	return func(yield func(*entry, *slot) bool) {
		for _, e := range entries {
			for _, s := range e.slots {
				if !yield(e, s) {
					return
				}
			}
		}
	}
}

// add adds an entry, which takes over keys of those that are going. No other has a key of it.
func (c *core) add(now time.Time, items []Item, pause bool) *entry {
	e := newEntry(now, items, pause, c.lease)
	for _, from := range c.busy {
		e.inherit(from)
	}
	c.entries, c.busy = append(c.entries, e), append(c.busy, e)
	c.changes = append(c.changes, change{key: e.key(), from: Initial, to: Registering})
	c.refreshEntry(now, e)
	return e
}

// setWant changes where an entry is to be.
func (c *core) setWant(now time.Time, e *entry, w want) {
	e.setWant(w)
	c.rouse(e)
	c.refreshEntry(now, e)
}

// setPaused takes an entry out of etcd, or puts it back. It returns the number of the change. A call that changes
// nothing has what etcd refused tried again.
func (c *core) setPaused(now time.Time, e *entry, pause bool) (seq int) {
	w := present
	if pause {
		w = paused
	}
	if w != e.want {
		e.seq++
	}
	e.retry()
	c.setWant(now, e, w)
	return e.seq
}

// update gives an entry new values under its keys.
func (c *core) update(now time.Time, e *entry, items []Item) error {
	if err := e.update(items, c.lease); err != nil {
		return err
	}
	e.retry()
	c.rouse(e)
	c.refreshEntry(now, e)
	return nil
}

// refresh brings the states of all entries up to date.
func (c *core) refresh(now time.Time) {
	if on := (ground{c.lease, c.kept(now, c.lease)}); on != c.ground {
		c.ground = on
		c.rouseAll()
	}
	for _, e := range c.busy {
		c.refreshEntry(now, e)
	}
	c.busy = slices.DeleteFunc(c.busy, func(e *entry) bool {
		e.quiet = e.rests(c.lease)
		return e.quiet
	})
}

func (c *core) refreshEntry(now time.Time, e *entry) {
	if change, changed := e.refresh(now, &c.leases); changed {
		c.changes = append(c.changes, change)
	}
}

// wanted reports whether an entry needs the session's lease.
func (c *core) wanted(now time.Time) bool {
	return len(c.entries) > len(c.busy) || slices.ContainsFunc(c.busy, func(e *entry) bool { return e.want == present || c.lingers(now, e) })
}

// nudge makes due at once what is otherwise done from time to time: a check, and reads of keys that someone else
// holds.
func (c *core) nudge(now time.Time) {
	c.checkAt = latest(now, c.checkedAt.Add(checkMin))
	for _, s := range c.busySlots() {
		s.look(now)
	}
}

func (c *core) scheduleCheck(now time.Time) {
	every := checkUnwatched
	switch {
	case c.lease == 0:
		every = checkIdle
	case c.watched && c.hidden:
		every = checkHidden
	case c.watched:
		every = checkWatched
	}
	c.checkAt = now.Add(c.jitter(every))
}

// setWatched takes in whether what is to be watched is. The first check is due at once when not every key is watched any more.
func (c *core) setWatched(now time.Time, watched bool) {
	watched = watched && len(c.registered(maxWatches+1)) <= maxWatches
	if c.watched && !watched {
		c.checkAt = now
	}
	c.watched = watched
}

// setCause notes why the entries are not in etcd, unless another reason is known.
func (c *core) setCause(err error) {
	for _, e := range c.busy {
		e.setCause(err)
	}
}

// complaint is a log line about something that keeps entries out of etcd.
type complaint struct {
	key    string
	others int // further entries that are kept out
	err    error
}

// complain has it logged that etcd does not have entries as they are wanted: the first time, then rarely.
func (c *core) complain(now time.Time, err error, affected func(*entry) bool) {
	next := &c.complainAt[0]
	if isRefusal(err) {
		next = &c.complainAt[1] // a refusal is not hidden behind failures that pass: somebody must mend it
	}
	if now.Before(*next) {
		return
	}
	var out []*entry
	for _, e := range c.entries {
		if e.want == present && affected(e) {
			out = append(out, e)
		}
	}
	if len(out) == 0 {
		return
	}
	*next = now.Add(complainEvery)
	c.complaints = append(c.complaints, complaint{out[0].key(), len(out) - 1, err})
}

func unregistered(e *entry) bool { return e.state != Registered }

func wasRefused(e *entry) bool { return e.refused != nil }

func (c *core) succeeded() {
	c.retry.Reset()
	c.silent = time.Time{}
}

// failed takes in a failure that is likely to pass. All calls wait a little.
func (c *core) failed(now time.Time, err error) {
	c.retryAt = now.Add(c.jitter(c.retry.Bound()))
	if c.silence = err; c.silent.IsZero() {
		c.silent = now
	}
	for _, e := range c.busy {
		if e.state != Registered && e.state != Paused {
			e.fail(err)
		}
	}
	c.complain(now, err, unregistered)
}
