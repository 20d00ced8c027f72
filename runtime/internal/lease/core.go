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
	// checkUnwatched spaces the checks of our keys; checkWatched does where watches tell of changes, and
	// checkIdle where there is no lease. All are the upper end of a jittered pause.
	checkUnwatched = 2 * time.Second
	checkWatched   = 10 * time.Second
	checkIdle      = time.Minute
	// checkMin is the least time between two checks, whatever the watches tell, and between two reads of a
	// key that someone else holds.
	checkMin = 200 * time.Millisecond
	// youngLease is the age below which the loss of a lease delays the next grant.
	youngLease = 5 * time.Second
	// sleepGap is the time between two calls of next after which the process must have slept: no call to
	// etcd and no wait takes as long.
	sleepGap = callTimeout + 2*tick
	// suspectEvery is the least time between two leases that are replaced because etcd denied a put.
	suspectEvery = 10 * time.Second
	// maxPresumed is how many earlier leases are revoked again when etcd was restored.
	maxPresumed = 64
	// minTombstones is how many deleted keys are remembered for a lease before it is replaced, and more where
	// there are more entries, so that to move them costs no more than the deletions did.
	minTombstones = 100
)

// core holds the wants of a session and its knowledge of etcd. Method next returns the call to make; the other
// methods take in outcomes. The core compares etcd with the wants key by key. Whatever a write to the key
// cannot put right it cures by replacing the lease: the keys move to another one, and revoking the old one
// undoes all writes on it, also those that have yet to arrive.
//
// A lease is current, then retired, then gone. A retired one is revoked when no wanted key is on it.
type core struct {
	ttl     time.Duration
	jitter  func(time.Duration) time.Duration
	entries []*entry

	lease       clientv3.LeaseID   // the current one; 0: none
	leases      []*heldLease       // the current one, and the retired ones
	everGranted []clientv3.LeaseID // every lease that was granted to this session, however long ago
	replace     error              // why the current lease is to be replaced; nil: it is not

	retryAt time.Time // no call before
	retry   backoff.Backoff
	grantAt time.Time // no grant before
	grants  backoff.Backoff

	hasty        bool // the last lease that was replaced was young
	replacements backoff.Backoff
	endings      backoff.Backoff // of keepalives of young leases

	putsAt time.Time // no put before, because etcd is full
	full   backoff.Backoff

	suspectAt time.Time // no lease is replaced before because a put was denied
	writeSize batchSize // of transactions that write
	readSize  batchSize // of transactions that read

	checkAt   time.Time // when the next check of the keys is due
	checkedAt time.Time // when the last one began
	queue     []probe   // the rest of the check that is under way
	watched   bool      // every key is watched
	revision  int64     // of etcd's last answer

	closing    bool
	lastWall   time.Time    // the wall clock at the last call of next
	complainAt [2]time.Time // no complaint before: about etcd that does not answer, about one that refuses
	changes    []change
	complaints []complaint
}

// newCore returns a core. jitter shortens a pause at random.
func newCore(ttl time.Duration, jitter func(time.Duration) time.Duration) *core {
	return &core{
		ttl: ttl, jitter: jitter,
		retry:        backoff.Backoff{Base: 50 * time.Millisecond, Max: time.Second},
		grants:       backoff.Backoff{Base: 200 * time.Millisecond, Max: time.Second},
		replacements: backoff.Backoff{Base: 200 * time.Millisecond, Max: time.Second},
		endings:      backoff.Backoff{Base: 500 * time.Millisecond, Max: 30 * time.Second},
		full:         backoff.Backoff{Base: 500 * time.Millisecond, Max: 2 * time.Second},
		writeSize:    MaxOps, readSize: MaxOps,
	}
}

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
	probeOp  struct{ probes []probe }
	writeOp  struct{ steps []step }
)

// next returns the call to make now, or nil and how long to wait before asking again.
func (c *core) next(now time.Time) (op, time.Duration) {
	c.noticeSleep(now)
	c.sweep(now)
	if wait := c.retryAt.Sub(now); wait > 0 {
		return nil, min(wait, tick)
	}
	if o := c.due(now); o != nil {
		return o, 0
	}
	return nil, min(c.wait(now), tick)
}

// due returns the most urgent call, nil if there is none. Removals come first, so that they never wait for
// puts. Reads come before the writes that depend on them, and revocations after the puts that move keys away.
func (c *core) due(now time.Time) op {
	if steps := c.removals(now); len(steps) > 0 {
		return c.send(steps)
	}
	if probes := c.reads(now); len(probes) > 0 {
		return probeOp{probes}
	}
	if c.wantsLease() && !now.Before(c.grantAt) {
		return grantOp{c.ttl}
	}
	if steps := c.puts(now); len(steps) > 0 {
		return c.send(steps)
	}
	if h := c.revocable(now); h != nil {
		h.revoking = true
		return revokeOp{h.id}
	}
	if probes := c.checks(now); len(probes) > 0 {
		return probeOp{probes}
	}
	return nil
}

// wait returns the time until something is due that is not due now.
func (c *core) wait(now time.Time) time.Duration {
	wait := tick
	consider := func(at time.Time) {
		if d := at.Sub(now); d > 0 {
			wait = min(wait, max(d, time.Millisecond))
		}
	}
	consider(c.checkAt)
	consider(c.putsAt)
	if c.wantsLease() {
		consider(c.grantAt)
	}
	for _, e := range c.entries {
		for _, s := range e.slots {
			consider(s.readAt)
			consider(s.notBefore)
			consider(s.retryAt)
		}
	}
	return wait
}

// noticeSleep checks at once after the process has not run for a while. It goes by the wall clock, for the
// monotonic one may stand still while the machine sleeps.
func (c *core) noticeSleep(now time.Time) {
	wall := now.Round(0)
	if !c.lastWall.IsZero() && wall.Sub(c.lastWall) > sleepGap {
		c.nudge(now)
	}
	c.lastWall = wall
}

// nudge makes due at once what is otherwise done from time to time: a check, and reads of keys that someone else
// holds.
func (c *core) nudge(now time.Time) {
	c.checkAt = later(now, c.checkedAt.Add(checkMin))
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.has == foreign {
				s.notBefore = later(now, s.foreignAt.Add(checkMin))
			}
		}
	}
}

// reconnected takes in that the connection to etcd is back. It may lead to another etcd, or to a restored one.
func (c *core) reconnected(now time.Time) {
	c.nudge(now)
	if c.lease == 0 {
		c.presumeAlive(now, 0)
	}
}

// heard takes in that a key was put or deleted. kv is nil for a deletion.
func (c *core) heard(now time.Time, key string, kv *keyValue) {
	for _, e := range c.entries {
		for _, s := range e.slots {
			if s.key != key || e.want != present {
				continue
			}
			if kv == nil {
				c.doubt(now, s)
			}
			asWanted := kv != nil && c.isOwn(kv.lease) && kv.value == s.value
			if kv == nil || s.has != foreign && !asWanted {
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

// sweep retires a lease that nothing needs, has one replaced that was not renewed in time, and drops closed
// entries.
func (c *core) sweep(now time.Time) {
	if !c.wanted() {
		c.lease, c.replace = 0, nil
	}
	if h := c.held(c.lease); h != nil && !now.Before(h.expires) && c.replace == nil {
		c.replace = fmt.Errorf("lease %x was not renewed for %v", int64(h.id), h.life)
	}
	c.keepProven(now)
	if c.replace != nil && !c.alive(now, c.lease) {
		c.blame(c.replace)
	}
	c.refresh(now)
	c.entries = slices.DeleteFunc(c.entries, func(e *entry) bool { return e.state == Closed })
}

func (c *core) wanted() bool {
	return !c.closing && slices.ContainsFunc(c.entries, func(e *entry) bool { return e.want == present })
}

// wantsLease reports whether a lease is to be granted. One that is to be replaced stays in use until then.
func (c *core) wantsLease() bool { return c.wanted() && (c.lease == 0 || c.replace != nil) }

// finished reports whether a closing session has nothing left to do.
func (c *core) finished() bool {
	return c.closing && !slices.ContainsFunc(c.leases, func(h *heldLease) bool { return !h.denied }) &&
		!slices.ContainsFunc(c.entries, func(e *entry) bool { return e.removable() })
}

// blame notes why the entries are not in etcd, unless another reason is known.
func (c *core) blame(err error) {
	for _, e := range c.entries {
		if e.want == present && e.err == nil {
			e.err = err
		}
	}
}

func (c *core) scheduleCheck(now time.Time) {
	every := checkUnwatched
	switch {
	case c.lease == 0:
		every = checkIdle
	case c.watched:
		every = checkWatched
	}
	c.checkAt = now.Add(c.jitter(every))
}

func (c *core) succeeded() { c.retry.Reset() }

// refresh brings the states of all entries up to date.
func (c *core) refresh(now time.Time) {
	for _, e := range c.entries {
		c.refreshEntry(now, e)
	}
}

func (c *core) refreshEntry(now time.Time, e *entry) {
	to := c.stateOf(now, e)
	e.wasRegistered = e.wasRegistered || e.want == present && to == Registered
	if to == Registered && e.upToDate() {
		e.refused = nil // nothing is left to be written
	}
	if to == Paused || to == Closed || to == Registered && e.refused == nil {
		e.err = e.leftover
	}
	if to == Lost && e.err == nil {
		e.err = c.notRenewed()
	}
	if to != e.state {
		c.changes = append(c.changes, change{e.key(), c.lease, e.state, to, e.err})
		e.state, e.since = to, now
	}
	e.wake()
}

// notRenewed returns why entries are lost whose lease has expired as far as known.
func (c *core) notRenewed() error {
	if c.replace != nil {
		return c.replace
	}
	return fmt.Errorf("lease %x was not renewed in time", int64(c.lease))
}

// close has all entries removed.
func (c *core) close(now time.Time) {
	c.closing = true
	for _, e := range c.entries {
		e.want = gone
	}
	c.sweep(now)
}

// end marks every entry closed, whether or not it is out of etcd.
func (c *core) end(now time.Time) {
	c.closing, c.lease = true, 0
	for _, e := range c.entries {
		from := e.state
		if e.remains() && len(c.leases) > 0 {
			e.leftover = e.leftoverErr()
		}
		e.state, e.since, e.err = Closed, now, e.leftover
		c.changes = append(c.changes, change{e.key(), 0, from, Closed, e.err})
		e.wake()
	}
	c.entries = nil
}

// leftover returns an error that names the lease that a closed session leaves in etcd, nil if there is none.
func (c *core) leftover(cause error) error {
	if len(c.leases) == 0 {
		return nil
	}
	if cause == nil {
		cause = errors.New("etcd denies it")
	}
	h := c.leases[len(c.leases)-1]
	return fmt.Errorf("lease %x was not revoked, it and its keys expire by themselves within %v: %w", int64(h.id), h.life, cause)
}
