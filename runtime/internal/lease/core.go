package lease

import (
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/backoff"
)

const (
	// checkUnwatched spaces the checks of own keys when nothing else tells of their deletion;
	// checkWatched, when a watch does. Both are the upper end of a jittered pause.
	checkUnwatched = 2 * time.Second
	checkWatched   = 10 * time.Second
	// checkMin is the least time between two checks, whatever there is to hear of our keys, and
	// between two looks at one that someone else holds.
	checkMin = 200 * time.Millisecond
	// conflictEvery spaces the looks at a key that someone else holds.
	conflictEvery = 2 * time.Second
	// refusedEvery spaces the attempts at a key that etcd refuses, for want of a permission say.
	refusedEvery = 2 * time.Second
	// restoreMin and restoreMax space the puts of a key that someone keeps deleting. The first is
	// not delayed, and after calm it is the first again.
	restoreMin = time.Second
	restoreMax = 2 * time.Second
	calm       = time.Minute
	// youngLease is the age at which the loss of a lease is no reason to be slow with the next.
	youngLease = 5 * time.Second
	// asleep is a gap between two looks at the wall clock which says that the process did not run:
	// it is more than a call may take and the owner ever waits.
	asleep = callTimeout + 2*tick
	// ownLeases is how many of the past leases are remembered as our own.
	ownLeases = 16
)

// core is what a session knows and wants, without any I/O: next says what is to be done, and the
// other methods take in what came of it. Every method runs under the session's lock, and time is
// an argument.
type core struct {
	ttl     time.Duration
	entries []*entry

	lease     clientv3.LeaseID   // 0: none
	grantedAt time.Time          // when lease was
	life      time.Duration      // the TTL of lease, as etcd gave it
	own       []clientv3.LeaseID // the last leases, lease included
	retired   []clientv3.LeaseID // to be revoked, once their keys have moved
	unrevoked clientv3.LeaseID   // what etcd refused to revoke

	retryAt   time.Time // no call before, for the last one failed
	retry     backoff.Backoff
	regrant   backoff.Backoff
	checkAt   time.Time // when the next check of the keys is due
	checkedAt time.Time // when the last one was made
	keysDeny  bool      // etcd does not let us list the lease's keys
	watched   bool      // every key is watched
	closing   bool
	looked    time.Time // the wall clock, at the last look
	changes   []change
}

func newCore(ttl time.Duration) *core {
	return &core{
		ttl:     ttl,
		retry:   backoff.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
		regrant: backoff.Backoff{Base: 200 * time.Millisecond, Max: time.Second},
	}
}

// want is what an entry's owner wants of it.
type want int

const (
	present want = iota
	paused
	gone
)

type entry struct {
	items []Item
	slots []*slot // one an item
	want  want
	taken bool // has been registered: from now on others' keys are respected
	// alone and blind are set after etcd refused a batch: to be written by itself, and without
	// looking at what is there, for which a role that may only write has no permission.
	alone, blind bool
	retryAt      time.Time // no attempt before, for etcd refused the last one
	refused      error     // what etcd said then
	state        State
	since        time.Time
	err          error
	notify       chan struct{} // closed at the next change of anything above
}

// slot is one key of an entry.
type slot struct {
	key, value string // as they are to be
	place      place
	touched    bool             // a put was sent and nothing says that the key is gone since
	lease      clientv3.LeaseID // the lease of that put
	written    string           // the value of the last put that succeeded
	rev        int64            // the key's last known mod revision; 0 absent
	putAt      time.Time
	spacing    time.Duration // between putAt and the next restoration
	notBefore  time.Time     // no put before
	seenAt     time.Time     // when it was last found to be someone else's
}

// place is where a key is, as far as known.
type place int

const (
	nowhere place = iota // absent, or unknown
	ours
	foreign
)

type change struct {
	key      string
	lease    clientv3.LeaseID
	from, to State
	err      error
}

// op is a call to etcd that next asks for.
type op any

type (
	grantOp  struct{ ttl time.Duration }
	revokeOp struct{ lease clientv3.LeaseID }
	checkOp  struct {
		lease clientv3.LeaseID
		keys  bool
	}
	batchOp struct{ steps []step }
)

// next returns the call to make now, or nil and how long to wait for the next look.
func (c *core) next(now time.Time) (op, time.Duration) {
	c.look(now)
	c.sweep(now)
	if wait := c.retryAt.Sub(now); wait > 0 {
		return nil, min(wait, tick)
	}
	if o := c.due(now); o != nil {
		return o, 0
	}
	return nil, min(c.wait(now), tick)
}

func (c *core) due(now time.Time) op {
	if c.closing {
		if len(c.retired) > 0 {
			return revokeOp{c.retired[0]}
		}
		return nil
	}
	if c.lease == 0 && c.wanted() {
		return grantOp{c.ttl}
	}
	if steps := c.batch(now); len(steps) > 0 {
		return batchOp{steps}
	}
	if len(c.retired) > 0 {
		return revokeOp{c.retired[0]}
	}
	if c.lease != 0 && !now.Before(c.checkAt) {
		// Now, not with the answer: what happens in between must not be forgotten.
		c.checkedAt = now
		c.scheduleCheck(now)
		return checkOp{c.lease, !c.keysDeny}
	}
	return nil
}

// wait is the time until something is due that is not due now.
func (c *core) wait(now time.Time) time.Duration {
	wait := tick
	if c.lease != 0 {
		wait = min(wait, c.checkAt.Sub(now))
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			if e.want == present && s.place != ours {
				wait = min(wait, later(s.notBefore, e.retryAt).Sub(now))
			}
		}
	}
	return max(wait, time.Millisecond)
}

// look notices that the process has not run for a while, by the wall clock: the monotonic one may
// stand still in a machine that sleeps.
func (c *core) look(now time.Time) {
	wall := now.Round(0)
	if !c.looked.IsZero() && wall.Sub(c.looked) > asleep {
		c.nudge(now)
	}
	c.looked = wall
}

// nudge makes due at once what only looks at etcd from time to time.
func (c *core) nudge(now time.Time) {
	c.checkAt = later(now, c.checkedAt.Add(checkMin))
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.place == foreign {
				s.notBefore = later(now, s.seenAt.Add(checkMin))
			}
		}
	}
}

// heard takes in that something happened to a key: it was deleted, or put on a lease.
func (c *core) heard(now time.Time, key string, deleted bool, on clientv3.LeaseID) {
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.key != key || e.want != present {
				continue
			}
			if deleted || s.place != foreign && !c.isOwn(on) {
				c.nudge(now)
			}
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sweep forgets the entries that are gone, and retires a lease that nobody needs.
func (c *core) sweep(now time.Time) {
	used := false
	for _, e := range c.entries {
		used = used || e.want != gone
	}
	if !used || c.closing {
		c.retire(now, nil)
	}
	c.refresh(now)
	c.entries = slices.DeleteFunc(c.entries, func(e *entry) bool { return e.state == Closed })
}

func (c *core) wanted() bool {
	return slices.ContainsFunc(c.entries, func(e *entry) bool { return e.want == present })
}

// finished tells that a closing session has nothing left in etcd.
func (c *core) finished() bool { return c.closing && c.lease == 0 && len(c.retired) == 0 }

// add takes a new entry in. Its keys must not be another one's.
func (c *core) add(now time.Time, items []Item, pause bool) (*entry, error) {
	e := &entry{items: items, since: now}
	if pause {
		e.want = paused
	}
	for _, item := range items {
		e.slots = append(e.slots, &slot{key: item.Key(c.lease), value: item.Value})
	}
	for _, other := range c.entries {
		for _, s := range e.slots {
			i := slices.IndexFunc(other.slots, func(o *slot) bool { return o.key == s.key })
			if i < 0 {
				continue
			}
			if other.want != gone {
				return nil, fmt.Errorf("key %q is already registered by this process", s.key)
			}
			// Its deletion is not to hit the new entry.
			s.touched, s.lease = other.slots[i].touched, other.slots[i].lease
			other.slots = slices.Delete(other.slots, i, i+1)
		}
	}
	c.entries = append(c.entries, e)
	c.changes = append(c.changes, change{key: e.key(), from: Unborn, to: Registering})
	c.refresh(now)
	return e, nil
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
		e.slots[i].value = item.Value
	}
	return nil
}

// grantedLease takes in the lease that the entries are to hang on from now on.
func (c *core) grantedLease(now time.Time, id clientv3.LeaseID, life time.Duration) {
	c.succeeded()
	c.lease, c.life, c.grantedAt = id, life, now
	if c.own = append(c.own, id); len(c.own) > ownLeases {
		c.own = c.own[1:]
	}
	c.scheduleCheck(now)
	for _, e := range c.entries {
		if e.want == gone {
			continue
		}
		e.refused = nil
		for i, item := range e.items {
			if key := item.Key(id); key != e.slots[i].key {
				// The old key goes with the old lease.
				*e.slots[i] = slot{key: key, value: item.Value}
			}
		}
	}
}

// retire gives up the lease without knowing it dead: it is revoked once its keys have moved.
func (c *core) retire(now time.Time, err error) {
	if c.lease == 0 {
		return
	}
	c.retired = append(c.retired, c.lease)
	c.drop(now, err)
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.place == ours {
				s.place = nowhere
			}
		}
	}
	c.refresh(now)
}

// lost takes in that a lease does not exist any more.
func (c *core) lost(now time.Time, id clientv3.LeaseID, err error) {
	c.retired = slices.DeleteFunc(c.retired, func(r clientv3.LeaseID) bool { return r == id })
	if c.lease == id {
		c.drop(now, err)
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.touched && s.lease == id {
				s.absent()
			}
		}
	}
	c.refresh(now)
}

func (c *core) drop(now time.Time, err error) {
	if now.Sub(c.grantedAt) < youngLease && err != nil {
		c.retryAt = now.Add(c.regrant.Next())
	} else {
		c.regrant.Reset()
	}
	c.lease = 0
	for _, e := range c.entries {
		if e.want == present {
			e.err = err
		}
	}
}

func (s *slot) absent() {
	s.place, s.touched, s.rev = nowhere, false, 0
}

// missing takes in that a key of ours is not there any more, and spaces its restoration.
func (s *slot) missing(now time.Time) {
	if now.Sub(s.putAt) > calm {
		s.spacing = 0
	}
	s.notBefore = s.putAt.Add(s.spacing)
	s.spacing = min(max(2*s.spacing, restoreMin), restoreMax)
	s.absent()
}

// checked takes in the keys that hang on the lease; known is false when etcd did not tell them.
func (c *core) checked(now time.Time, id clientv3.LeaseID, keys [][]byte, known bool) {
	c.succeeded()
	if id != c.lease || !known {
		return
	}
	there := make(map[string]bool, len(keys))
	for _, key := range keys {
		there[string(key)] = true
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.place == ours && !there[s.key] {
				s.missing(now)
				e.err = fmt.Errorf("key %q was deleted or taken over", s.key)
			}
		}
	}
	c.refresh(now)
}

func (c *core) scheduleCheck(now time.Time) {
	every := checkUnwatched
	if c.watched {
		every = checkWatched
	}
	c.checkAt = now.Add(jitter(every))
}

// failed takes in a failure that is likely to pass: everything waits a little.
func (c *core) failed(now time.Time, err error) {
	c.retryAt = now.Add(c.retry.Next())
	for _, e := range c.entries {
		if e.state != Registered && e.want != paused {
			e.err = err
			e.wake()
		}
	}
}

// refusedGrant takes in that etcd will not grant a lease however often it is asked. It is asked
// again all the same, for someone may change its mind.
func (c *core) refusedGrant(now time.Time, err error) {
	c.failed(now, err)
	for _, e := range c.entries {
		if e.want == present {
			e.refused = err
		}
	}
}

func (c *core) succeeded() { c.retry.Reset() }

// isOwn tells whether a key on that lease is this session's.
func (c *core) isOwn(id clientv3.LeaseID) bool { return id != 0 && slices.Contains(c.own, id) }

// refresh brings the states of the entries up to date.
func (c *core) refresh(now time.Time) {
	for _, e := range c.entries {
		to := e.current()
		if to == Registered && !e.taken {
			e.taken = true
		}
		if to == Registered || to == Paused || to == Closed {
			e.err = nil
		}
		if to != e.state {
			c.changes = append(c.changes, change{e.key(), c.lease, e.state, to, e.err})
			e.state, e.since = to, now
		}
		e.wake()
	}
}

// key stands for the entry.
func (e *entry) key() string {
	if len(e.slots) == 0 {
		return ""
	}
	return e.slots[0].key
}

func (e *entry) current() State {
	placed, others, left := 0, 0, 0
	for _, s := range e.slots {
		if s.place == ours {
			placed++
		}
		if s.place == foreign {
			others++
		}
		if s.touched {
			left++
		}
	}
	switch {
	case e.want == gone && left == 0:
		return Closed
	case e.want == paused && left == 0:
		return Paused
	case e.want != present:
		return e.state
	case others > 0:
		return Conflict
	case placed == len(e.slots):
		return Registered
	case e.taken:
		return Lost
	}
	return Registering
}

// upToDate tells whether etcd has the entry as it is wanted.
func (e *entry) upToDate() bool {
	if e.want != present {
		return e.state == Paused || e.state == Closed
	}
	for _, s := range e.slots {
		if s.place != ours || s.written != s.value {
			return false
		}
	}
	return true
}

func (e *entry) wake() {
	if e.notify != nil {
		close(e.notify)
		e.notify = nil
	}
}

// close makes everything go.
func (c *core) close(now time.Time) {
	c.closing = true
	for _, e := range c.entries {
		e.want = gone
	}
	c.refresh(now)
}

// end marks every entry closed, whatever is left of it in etcd.
func (c *core) end(now time.Time) {
	c.closing = true
	c.retire(now, nil)
	for _, e := range c.entries {
		from := e.state
		e.state, e.since = Closed, now
		c.changes = append(c.changes, change{e.key(), 0, from, Closed, nil})
		e.wake()
	}
	c.entries = nil
}

// leftover says what a closed session has left in etcd.
func (c *core) leftover(cause error) error {
	id := c.unrevoked
	if len(c.retired) > 0 {
		id = c.retired[len(c.retired)-1]
	}
	if id == 0 {
		return nil
	}
	if cause == nil {
		cause = errors.New("etcd denies it")
	}
	return fmt.Errorf("lease %x was not revoked, it and its keys expire by themselves within %v: %w", int64(id), c.life, cause)
}
