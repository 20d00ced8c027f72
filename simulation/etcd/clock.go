package etcd

import "time"

// run is the clock: it wakes when something is to happen by itself.
func (c *Cluster) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		select {
		case <-c.stop:
			return
		case <-c.rearm:
		case <-timer.C:
		}
		c.mu.Lock()
		c.tick(time.Now())
		c.armed = c.next()
		wait := time.Hour
		if !c.armed.IsZero() {
			wait = time.Until(c.armed)
		}
		timer.Reset(wait)
		c.mu.Unlock()
	}
}

// next returns when something happens by itself; zero for never.
func (c *Cluster) next() time.Time {
	next := c.members.next()
	if c.members.working() {
		next = sooner(next, c.state.lessor.due())
	}
	for _, n := range c.nodes {
		for _, s := range n.streams {
			if s.watches.behind() {
				next = sooner(next, s.resync)
			}
		}
	}
	return next
}

// tick does what is due.
func (c *Cluster) tick(now time.Time) {
	c.settle()
	if c.members.working() && c.state.expire(now) {
		c.committed(now)
	}
	for _, n := range c.nodes {
		ends := c.members.endDue(n.i, now)
		for _, s := range n.streams {
			if ends && s.wantsLeader {
				s.end(errNoLeader)
			}
			if s.watches.behind() && !now.Before(s.resync) {
				s.watches.sync(n.view())
				s.wake()
			}
		}
	}
}

// unlock gives up the lock, and rearms the clock if something is now due before it wakes.
func (c *Cluster) unlock() {
	next := c.next()
	early := !next.IsZero() && (c.armed.IsZero() || next.Before(c.armed))
	c.mu.Unlock()
	if early {
		select {
		case c.rearm <- struct{}{}:
		default:
		}
	}
}

// wait returns a channel that is closed when links between members change, or one has applied more.
func (c *Cluster) wait() <-chan struct{} {
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

func (c *Cluster) signal() {
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// settle carries out what follows when members come or go, or links between them change.
func (c *Cluster) settle() {
	now := time.Now()
	if c.members.settle(now) {
		c.state.lessor.demote()
	}
	if c.members.electDue(now) {
		c.state.lessor.promote(now)
	}
	c.spread(now)
	c.signal()
}

// committed passes on to observers and members what the state has just committed.
func (c *Cluster) committed(now time.Time) {
	commits := c.state.commits
	c.state.commits = nil
	for _, one := range commits {
		rev := one.events[0].Kv.ModRevision
		c.members.commit(now, rev, min(c.state.store.compacted, rev))
		c.observe(now, one)
	}
	if len(commits) == 0 {
		c.members.commit(now, c.state.store.rev, c.state.store.compacted)
	}
	c.spread(now)
	c.trim()
}

// spread has the members apply what they may.
func (c *Cluster) spread(now time.Time) {
	advanced := false
	for _, n := range c.nodes {
		for {
			before := n.view()
			if _, ok := c.members.apply(n.i, now); !ok {
				break
			}
			advanced = true
			if v := n.view(); v.rev > before.rev {
				n.notify(v)
			}
		}
	}
	if advanced {
		c.signal()
	}
}

// trim drops the history that all members have compacted.
func (c *Cluster) trim() {
	if oldest := c.members.oldest(); oldest > c.state.store.trimmed {
		c.state.store.trim(oldest)
	}
}
