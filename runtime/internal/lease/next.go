package lease

import (
	"slices"
	"time"
)

// sleepGap is how long a wait lasts after which the process must have slept: none is longer than a tick.
const sleepGap = 4 * tick

// next returns the call to make now, or nil and how long to wait before asking again.
func (c *core) next(now time.Time) (op, time.Duration) {
	c.noticeSleep(now)
	c.sweep(now)
	if wait := c.retryAt.Sub(now); wait > 0 {
		return nil, min(wait, tick)
	}
	if o := c.due(now); o != nil {
		c.lastWall = time.Time{} // a call takes longer than a wait
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
	if c.wantsLease(now) && !now.Before(c.grantAt) {
		return grantOp{c.ttl}
	}
	if steps := c.puts(now); len(steps) > 0 {
		return c.send(steps)
	}
	if h := c.revocable(now); h != nil {
		h.markRevoking()
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
	if c.wantsLease(now) {
		consider(c.grantAt)
	}
	for _, s := range c.busySlots() {
		consider(s.readAt)
		consider(s.notBefore)
		consider(s.retryAt)
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

// sweep retires a lease that nothing needs, has one replaced that was not renewed in time, and drops closed
// entries.
func (c *core) sweep(now time.Time) {
	if !c.wanted(now) {
		c.retire()
	}
	c.replaceLate(now)
	if c.replace != nil && !c.alive(now, c.lease) {
		c.setCause(c.replace)
	}
	if err := c.overdue(now, c.lease); err != nil {
		c.complain(now, err, func(e *entry) bool { return e.state == Registered })
	}
	c.refresh(now)
	if slices.ContainsFunc(c.busy, (*entry).closed) {
		c.entries = slices.DeleteFunc(c.entries, (*entry).closed)
		c.busy = slices.DeleteFunc(c.busy, (*entry).closed)
	}
}

// wantsLease reports whether a lease is to be granted. One that is to be replaced stays in use until then.
func (c *core) wantsLease(now time.Time) bool {
	return c.wanted(now) && (c.lease == 0 || c.replace != nil)
}

// finished reports whether a closing session has nothing left to do.
func (c *core) finished() bool {
	return c.closing && !c.unrevoked() && !slices.ContainsFunc(c.busy, (*entry).removable)
}

// close has all entries removed.
func (c *core) close(now time.Time) {
	c.closing = true
	c.rouseAll()
	for _, e := range c.entries {
		e.close()
	}
	c.sweep(now)
}

// end marks every entry closed that is not, whether or not it is out of etcd.
func (c *core) end(now time.Time) {
	c.closing = true
	c.retire()
	for _, e := range slices.DeleteFunc(c.entries, (*entry).closed) {
		c.changes = append(c.changes, e.end(now, len(c.held) > 0))
	}
	c.entries, c.busy = nil, nil
}
