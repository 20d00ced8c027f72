package balancer

import "time"

// crossing decides when calls may leave for the cluster that a connection falls back on: while it has endpoints, and home lacks
// what calls ask for. Its methods are the events.
type crossing struct {
	offered bool // there are endpoints away
	lacking bool // home cannot take some of the calls
	open    bool // the policy away has its endpoints, so that it connects to them

	epoch   uint64    // of the last picker that home was judged by
	closeAt time.Time // when open ends, unless calls leave again before; zero: no end is set
	lookAt  time.Time // when to look whether calls leave still; zero: none does
	out     crossed
}

// crossed are the effects.
type crossed struct {
	updateAway bool // give the policy away what it is to have
	tell       bool // whether calls leave
}

// leaving reports whether calls leave.
func (c *crossing) leaving() bool { return c.offered && c.lacking }

// offer takes the news that the key's state is new, and whether there are endpoints away.
func (c *crossing) offer(offered bool, now time.Time) {
	c.change(now, func() { c.offered = offered })
	c.out.updateAway = c.out.updateAway || c.open
}

// home takes whether home lacks something, by the picker of an epoch.
func (c *crossing) home(epoch uint64, lacking bool, now time.Time) {
	if epoch >= c.epoch {
		c.change(now, func() { c.epoch, c.lacking = epoch, lacking })
	}
}

// asked takes the news that a call has found something lacking at home, by the picker of an epoch.
func (c *crossing) asked(epoch uint64, now time.Time) { c.home(epoch, true, now) }

// expire takes the time, and reports whether to judge home now.
func (c *crossing) expire(now time.Time) (look bool) {
	if !c.closeAt.IsZero() && !now.Before(c.closeAt) {
		c.closeAt, c.open, c.out.updateAway = time.Time{}, false, true
	}
	if look = !c.lookAt.IsZero() && !now.Before(c.lookAt); look {
		c.lookAt = now.Add(linger)
	}
	return look
}

// change makes a change, and notes what follows. What is open stays so for a while: home may soon lack something again.
func (c *crossing) change(now time.Time, f func()) {
	was := c.leaving()
	f()
	is := c.leaving()
	c.out.tell = c.out.tell || was != is
	if is {
		if !was {
			c.lookAt = now.Add(linger)
		}
		c.out.updateAway = c.out.updateAway || !c.open
		c.open, c.closeAt = true, time.Time{}
		return
	}
	c.lookAt = time.Time{}
	if c.open && c.closeAt.IsZero() {
		c.closeAt = now.Add(linger)
	}
}

// flush returns the effects since it was last called.
func (c *crossing) flush() crossed {
	out := c.out
	c.out = crossed{}
	return out
}
