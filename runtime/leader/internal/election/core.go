package election

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/candidate"
)

const (
	// failedMin and failedMax bound the backoff after an attempt to stand, or
	// to revoke a lease, that etcd has not answered.
	failedMin = 50 * time.Millisecond
	failedMax = time.Second

	// standTimeout bounds a call of the first attempt to stand. A further attempt
	// goes to another member. For an etcd that is slow, the timeout grows by
	// standLonger times the backoff.
	standTimeout = 2 * time.Second
	standLonger  = 20

	// refusedMin and refusedMax bound the backoff of attempts to stand that
	// etcd has refused.
	refusedMin = 500 * time.Millisecond
	refusedMax = 10 * time.Second

	// A leadership ends a TTL divided by marginOf before etcd can end the
	// lease.
	marginOf = 10

	// revokeAgain is the time without an answer after which a lease is revoked
	// again, perhaps by another member of etcd.
	revokeAgain = time.Second

	// maxGrace bounds how long a leader that resigns waits for unary calls. Until
	// then other calls find no leader, and wait. The withdrawal of a registration
	// takes at most 5 s, so that a second remains for the revocation.
	maxGrace = 4 * time.Second

	// renewalsIn is the number of renewals within one TTL.
	renewalsIn = 4
)

// First is the candidate that precedes all others, as far as known. The zero
// value means no candidate.
type First = candidate.First

// View is the state of the candidates as an instance sees it.
type View struct {
	Known  bool  // etcd has shown all candidates
	First  First // the candidate that precedes all others
	Blind  bool  // etcd denies the watch, so First may be outdated
	Yields bool  // the instance is drained, and another candidate is not
}

// Term is a leadership. The zero value means no leadership.
type Term struct {
	Token int64     // the candidate's create revision
	Until time.Time // when the leadership ends unless the lease is renewed
}

// phase is the phase of a candidate.
type phase int

const (
	absent   phase = iota // without lease and key
	entering              // the lease and the key are being written
	placed                // the key is in etcd
	leaving               // the lease is being revoked
)

// core decides whether the instance has a candidate, and whether it leads. Its
// methods are events: each takes the present time, and returns the effects.
type core struct {
	// how long a leader that resigns waits for unary calls under way
	grace time.Duration

	wanted  bool // the instance should be a candidate if it can
	view    View
	highest int64 // the highest create revision of all candidates seen

	// etcd denies the watch of the candidates, and the instance does not lead
	blind bool

	begun bool // the instance led after the last event

	phase  phase
	number uint64 // counts our candidates; answers about earlier ones are ignored
	own    First  // our candidate in phase placed
	lease  clientv3.LeaseID
	life   time.Duration // the TTL of the lease

	// the time until which etcd keeps lease for sure, less a margin for clocks
	until time.Time

	// when to renew the lease next or, in phase leaving, to revoke it
	callAt time.Time

	calls int // the unary calls under way that enter has admitted with own

	// the latest time at which a resigning leader leaves: it leaves earlier if
	// its calls end; zero if it is not resigning
	endAt time.Time

	retryAt time.Time // the earliest time of the next attempt to stand
	pause   time.Duration
}

// effects are the commands of an event for the shell.
type effects struct {
	// grant a lease and put a candidate on it, with this timeout for each call;
	// the event stood follows
	stand time.Duration

	renew  clientv3.LeaseID // renew this lease; the event renewed follows
	revoke clientv3.LeaseID // revoke this lease; the event revoked follows
	cut    bool             // the leader resigns: end its streams

	// log that our candidate was created below this revision, so that tokens
	// repeat; 0 to log nothing
	restoredFrom int64

	wake time.Time // when the event tick is due, zero for never
}

// want handles a change of wanted.
func (c *core) want(now time.Time, wanted bool) effects {
	c.wanted = wanted
	return c.due(now)
}

// hear handles a change of the candidates.
func (c *core) hear(now time.Time, view View) effects {
	c.view = view
	c.highest = max(c.highest, view.First.Created)

	if c.phase == placed && view.Known && c.own.Precedes(view.First) {
		c.callAt = now // a renewal finds out whether the key was deleted
	}

	return c.due(now)
}

// resign ends the leadership with the token within a grace. The instance's next
// candidate comes after all others.
func (c *core) resign(now time.Time, token int64, grace time.Duration) effects {
	at := now.Add(grace)
	if c.phase == placed &&
		c.own.Created == token &&
		(c.endAt.IsZero() || at.Before(c.endAt)) {
		c.endAt = at
	}

	return c.due(now)
}

// end withdraws the candidate for good, and does not wait for calls.
func (c *core) end(now time.Time) effects {
	c.wanted = false
	return c.resign(now, c.own.Created, 0)
}

// enter reports whether a call with the token may begin. No call may once the
// leader resigns. After a unary call, exit follows.
func (c *core) enter(now time.Time, token int64, unary bool) bool {
	ok := c.term(now).Token == token && c.endAt.IsZero()
	if ok && unary {
		c.calls++
	}

	return ok
}

// exit handles the end of a unary call that the candidate with this number has
// admitted.
func (c *core) exit(now time.Time, number uint64) effects {
	if number == c.number {
		c.calls--
	}

	return c.due(now)
}

// outcome is the result of an attempt to stand, or of a renewal.
type outcome struct {
	lease   clientv3.LeaseID
	own     First         // our candidate; zero if it may be missing in etcd
	life    time.Duration // the TTL of the lease, from sent on at least
	sent    time.Time
	gone    bool // the lease or its key is gone
	refused bool // etcd denies the candidate
	err     error
}

// stood handles the outcome of an attempt to stand.
func (c *core) stood(now time.Time, number uint64, o outcome) effects {
	if number != c.number || c.phase != entering {
		return c.due(now)
	}

	c.lease = o.lease
	c.life = o.life
	var restoredFrom int64

	switch {
	case o.err == nil:
		if o.own.Created < c.highest {
			restoredFrom = c.highest
			c.highest = o.own.Created
		}

		c.highest = max(c.highest, o.own.Created)
		c.phase = placed
		c.own = o.own
		c.pause = 0
		c.until = provenUntil(o)
		c.callAt = o.sent.Add(o.life / renewalsIn)

	case o.refused:
		c.fail(now, refusedMin, refusedMax)
	default:
		c.fail(now, failedMin, failedMax)
	}

	e := c.due(now)
	e.restoredFrom = restoredFrom

	return e
}

// fail handles a failed attempt to stand. Revoking the attempt's lease also
// deletes a key that the attempt may have put.
func (c *core) fail(now time.Time, minPause, maxPause time.Duration) {
	c.pause = min(max(2*c.pause, minPause), maxPause)
	c.retryAt = now.Add(c.pause)
	c.phase = absent

	if c.lease != clientv3.NoLease {
		c.leave(now)
	}
}

// provenUntil returns the time until which an outcome proves the lease alive, less
// the margin.
func provenUntil(o outcome) time.Time {
	return o.sent.Add(o.life - o.life/marginOf)
}

// renewed handles the outcome of a renewal.
func (c *core) renewed(now time.Time, number uint64, o outcome) effects {
	if number != c.number || c.phase != placed {
		return c.due(now)
	}

	late := o.err == nil && !now.Before(c.until)
	staysInDoubt := o.err != nil && c.inDoubt(now) && expired(o.sent, c.until)

	switch {
	case o.gone || late || staysInDoubt:
		c.leave(now)
	case o.err != nil:
		if soon := now.Add(failedMax); soon.Before(c.callAt) {
			c.callAt = soon
		}

	default:
		c.life = o.life

		if proven := provenUntil(o); proven.After(c.until) {
			c.until = proven
		}
	}

	return c.due(now)
}

// revoked handles the answer to a revocation. gone reports whether the lease is
// gone.
func (c *core) revoked(now time.Time, number uint64, gone bool) effects {
	if number != c.number || c.phase != leaving {
		return c.due(now)
	}

	if gone {
		c.phase = absent
		return c.due(now)
	}

	c.pause = min(max(2*c.pause, failedMin), failedMax)
	c.callAt = now.Add(c.pause)

	return c.due(now)
}

// tick handles the arrival of the time effects.wake.
func (c *core) tick(now time.Time) effects {
	return c.due(now)
}

// leave withdraws the candidate, which ends a leadership.
func (c *core) leave(now time.Time) {
	c.phase = leaving
	c.callAt = now
}

// term returns the leadership at a time.
func (c *core) term(now time.Time) Term {
	if c.phase != placed || c.view.First != c.own || expired(now, c.until) {
		return Term{}
	}

	return Term{c.own.Created, c.until}
}

// inDoubt reports whether the leadership has ended by the wall clock alone. Then
// the clock was set, or the machine has slept while its monotonic clock stood
// still. Until a renewal is answered, no call begins, and calls under way go on.
func (c *core) inDoubt(now time.Time) bool {
	return c.phase == placed &&
		c.view.First == c.own &&
		now.Before(c.until) &&
		expired(now, c.until)
}

// due ends every event: it changes the phase if that is due, and returns the
// effects.
func (c *core) due(now time.Time) (e effects) {
	certain := c.term(now) != Term{}
	leads := certain || c.inDoubt(now)
	c.blind = c.view.Blind && !leads

	// it resigns if it must not be a candidate any more
	eligible := c.wanted && c.view.Known && !c.blind && !c.view.Yields
	if c.phase == placed && !eligible && c.endAt.IsZero() {
		c.endAt = now.Add(c.grace)
	}

	if c.phase == placed && !c.endAt.IsZero() {
		e.cut = true

		// nothing to wait for, or the grace is over
		if !leads || !c.begun || c.calls == 0 || !now.Before(c.endAt) {
			c.leave(now)
		}
	}

	// a term does not begin in doubt
	c.begun = c.phase == placed && (certain || c.begun && leads)

	switch c.phase {
	case absent:
		if !eligible {
			return e
		}

		e.wake = c.retryAt

		if !now.Before(c.retryAt) {
			c.number++
			c.calls = 0
			c.endAt = time.Time{}
			c.phase = entering
			e.stand = min(standTimeout+standLonger*c.pause, callTimeout)
			e.wake = time.Time{}
		}

	case placed:
		if expired(now, c.callAt) { // also after a step of the wall clock
			e.renew = c.lease
			c.callAt = now.Add(c.life / renewalsIn)
		}

		e.wake = c.callAt
		if leads && c.until.Before(e.wake) {
			e.wake = c.until
		}

		if !c.endAt.IsZero() && c.endAt.Before(e.wake) {
			e.wake = c.endAt
		}

	case leaving:
		if !now.Before(c.callAt) {
			e.revoke = c.lease
			c.callAt = now.Add(revokeAgain)
		}

		e.wake = c.callAt
	}

	return e
}

// expired reports whether a time has come by either clock. The monotonic clock
// may stop while the machine sleeps.
func expired(now, until time.Time) bool {
	return !now.Before(until) || !now.Round(0).Before(until.Round(0))
}
