package discovery

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

const (
	// linger is how long a key is followed after its last reader has left: a
	// reader that comes soon finds the state current.
	linger = time.Minute

	// configGrace is how long the first endpoints wait for the live service
	// config, so that a connection does not start under one policy and change
	// to another soon after.
	configGrace = 200 * time.Millisecond

	// silentGrace is how long calls wait for etcd. After that, they use the
	// default service config, and the last known endpoints of a key that was
	// followed before.
	silentGrace = 100 * time.Millisecond

	// departedGrace is how long the last endpoints of a key may be called after
	// their owners have withdrawn them.
	departedGrace = 5 * time.Second
)

// core holds the state of one key. Each of its methods handles an event: it
// updates the state and returns the effects.
//
//	etcd's entries ── leave ── merge ── hold ──┐
//	the disk, until etcd has answered ─────────┤
//	the live service config ───────────────────┴──▶ State ──▶ readers, disk
type core struct {
	state *State

	readers int

	// when to stop following the key; zero unless the last reader has left
	unfollow time.Time

	truth    truth
	diskRead bool // the disk was read since following began
	marks    marks
	hold     hold

	config configCore

	// when the present wait ends; zero if none has begun. If the key was
	// followed before, calls wait for etcd. Otherwise, the first endpoints wait
	// for the live config.
	waitUntil time.Time
}

// truth has the endpoints of a key, from etcd or from the disk, without held
// ones.
type truth struct {
	// set may be used: since following began it was read, or etcd has failed to
	// confirm it
	known bool

	set   []*Backend        // nil until it was read from etcd or the disk
	names map[string]string // see State.names

	// makes set from etcd's entries; has no items while set is from the disk
	merger
}

// effects are the steps that the shell takes after an event.
type effects struct {
	changed  bool      // notify the readers
	follow   bool      // start to follow the key
	unfollow bool      // stop following the key
	load     bool      // read the disk, and call onLoaded before onEntries is called again
	save     *saved    // what to write to disk; may be nil
	warn     warning   // what to log, if it has an error
	wake     time.Time // when to call tick, zero for never
}

// saved is the part of a state that is kept on disk.
type saved struct {
	set  []*Backend
	live string // see State.Live
}

// newCore returns the core of a key without readers. read is that of
// configCore.
func newCore(
	grace time.Duration,
	read func(liveConfig, time.Time) (string, time.Time, error),
) *core {
	return &core{
		hold:   hold{grace: grace},
		state:  &State{},
		config: configCore{read: read},
	}
}

// onReaderAdded adds a reader. If the key was not followed, its last endpoints
// may be out of date: calls use them only after silentGrace, and they do not
// count as known until etcd has answered, or has failed to answer.
func (c *core) onReaderAdded(now time.Time) effects {
	e := effects{follow: !c.followed()}
	c.readers++
	c.unfollow = time.Time{}

	if e.follow {
		c.truth.known = false

		next := *c.state
		if next.Known {
			next.Sequence++
		}

		next.Known = false
		next.Provisional = false
		next.Held = nil
		next.Endpoints = nil
		next.Departed = nil
		next.Changed = time.Time{}
		c.state = &next

		if len(next.Backends) > 0 {
			c.waitUntil = now.Add(silentGrace)
		}
	}

	return c.due(e)
}

// followed reports whether the key is followed.
func (c *core) followed() bool {
	return c.readers > 0 || !c.unfollow.IsZero()
}

// onReaderClosed removes a reader.
func (c *core) onReaderClosed(now time.Time) effects {
	c.readers--
	if c.readers == 0 {
		c.unfollow = now.Add(linger)
	}

	return c.due(effects{})
}

// onEntries handles an update of the key's entries.
func (c *core) onEntries(u listwatch.Update[*Backend], now time.Time) effects {
	next := *c.state
	next.Err = u.Err
	var withdrawn map[string]struct{}

	switch {
	case u.Snapshot != nil:
		c.truth.known = true
		next.Provisional = u.Snapshot.Provisional
		var items []*item
		items, next.Leaving, withdrawn = c.marks.apply(u.Snapshot.Items,
			u.Snapshot.Removed)
		c.truth.set, c.truth.names = c.truth.merge(items)

	case !c.truth.known && c.truth.set != nil: // etcd fails: the last set serves
		c.truth.known = true
		next.Provisional = true
	}

	e := c.update(next, withdrawn, now)

	if !c.truth.known && u.Err != nil && !Refused(u.Err) && !c.diskRead {
		c.diskRead = true
		e.load = true
	}

	return e
}

// onLoaded handles s, which was read from the disk. It ignores s if s has no
// endpoints. Endpoints of s that etcd's first answer lacks may be held.
func (c *core) onLoaded(s saved, now time.Time) effects {
	if len(s.set) == 0 {
		return c.due(effects{})
	}

	c.truth = truth{known: true, set: s.set}
	next := *c.state
	next.Provisional = true
	c.config.recall(&next, s.live, now)

	return c.update(next, nil, now)
}

// onConfig handles an update of the key's live service config.
func (c *core) onConfig(u listwatch.Update[liveConfig], now time.Time) effects {
	next := *c.state
	c.config.take(&next, u)

	return c.update(next, nil, now)
}

// tick handles the arrival of the time effects.wake.
func (c *core) tick(now time.Time) effects {
	if !c.unfollow.IsZero() && !now.Before(c.unfollow) {
		return c.stop()
	}

	next := *c.state
	if !now.Before(next.departedUntil()) {
		next.Departed = nil
	}

	return c.update(next, nil, now)
}

// stop stops following the key. The last state stays, as provisional. Endpoints
// that vanish before the key is followed again are not held: they may have
// vanished one by one.
func (c *core) stop() effects {
	c.unfollow = time.Time{}
	c.waitUntil = time.Time{}
	c.diskRead = false
	c.hold = hold{grace: c.hold.grace}
	c.marks = marks{}
	c.config.latest = c.config.value // an unchecked value is discarded
	next := *c.state
	next.Provisional = next.Known
	next.LiveConfirmed = false
	next.Err = nil
	next.Leaving = nil
	c.state = &next

	return effects{unfollow: true}
}

// due returns e with wake set to the time when tick must be called next.
func (c *core) due(e effects) effects {
	waitUntil := c.waitUntil

	// No wait is left if endpoints are in use: known ones or, while etcd is
	// silent, the last known ones.
	if c.state.Known || c.state.Provisional && !c.truth.known {
		waitUntil = time.Time{}
	}

	for _, at := range []time.Time{c.unfollow, c.hold.next(), c.config.due(),
		waitUntil, c.state.departedUntil()} {
		if !at.IsZero() && (e.wake.IsZero() || at.Before(e.wake)) {
			e.wake = at
		}
	}

	return e
}

// update completes next, the old state with an event's changes, and makes it
// the current state. withdrawn is that of [marks.apply].
func (c *core) update(next State, withdrawn map[string]struct{}, now time.Time) effects {
	old := c.state
	e := effects{warn: c.config.settle(&next, now)}

	c.wait(&next, now)
	same := c.useEndpoints(&next, withdrawn, now)

	changesCalls := !same ||
		next.changesCalls(old) ||
		!c.truth.known && next.Provisional != old.Provisional
	if changesCalls {
		next.Sequence++
	}

	e.changed = changesCalls || next.changesStatus(old)

	confirmed := next.Known && !next.Provisional
	if confirmed && (!same || next.Live != old.Live || old.Provisional) {
		e.save = &saved{next.Backends, next.Live}
	}

	c.state = &next

	return c.due(e)
}

// wait begins the wait for the live config once the endpoints are known, unless
// calls have waited for etcd. It ends the wait for etcd when that is due: calls
// then use the last endpoints, which may be out of date.
func (c *core) wait(next *State, now time.Time) {
	switch {
	case c.truth.known && c.waitUntil.IsZero():
		c.waitUntil = now.Add(configGrace)
	case !c.truth.known &&
		!c.state.Provisional &&
		!c.waitUntil.IsZero() &&
		!now.Before(c.waitUntil):
		next.Provisional = true
		next.Endpoints = next.Backends
	}
}

// useEndpoints puts the endpoints of truth, and held ones, into next. The first
// endpoints wait until the live config is known or late. same reports whether
// the endpoints are those of the old state. If they differ, useEndpoints also
// sets Departed and Changed.
func (c *core) useEndpoints(
	next *State,
	withdrawn map[string]struct{},
	now time.Time,
) (same bool) {
	old := c.state

	// provisional endpoints need no confirmed config
	configSettled := next.LiveConfirmed || next.LiveKnown && next.Provisional
	var published []*Backend

	if c.truth.known && (old.Known || configSettled || !now.Before(c.waitUntil)) {
		if old.Known {
			published = old.Backends
		}

		next.Known = true
		next.names = c.truth.names
		next.Backends = c.hold.filter(published, c.truth.set, c.truth.items,
			withdrawn, now)
		next.Held = c.hold.held()
	}

	same = next.Known == old.Known && slices.Equal(next.Backends, old.Backends)
	if same {
		next.Backends = old.Backends
		return same
	}

	next.Endpoints = next.Backends
	next.Departed = lastDeparted(published, next.Backends, withdrawn)
	next.Changed = now

	return same
}

// lastDeparted returns the endpoints of published that their owners have
// withdrawn, if next has no endpoints.
func lastDeparted(
	published, next []*Backend,
	withdrawn map[string]struct{},
) (departed []*Backend) {
	if len(next) > 0 {
		return nil
	}

	for _, b := range published {
		if _, orderly := withdrawn[b.Endpoint.Addr]; orderly {
			departed = append(departed, b)
		}
	}

	return departed
}

// Refused reports whether err is a refusal by etcd itself, such as for a
// missing permission, not the lack of an answer.
func Refused(err error) bool {
	_, ok := etcderr.Answer(err)
	return ok && etcderr.Refused(err)
}
