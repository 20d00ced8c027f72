package balancer

import "google.golang.org/grpc/connectivity"

// standing says which count of its leaf's readiness a wrapper is in.
type standing int8

const (
	notReady standing = iota
	isReady
	isWaiting // for a place, and never tried
)

// standing returns where a wrapper counts now. It must be called with pool.mu held. It knows nothing of what the policy
// below adds, such as an ejection.
func (w *subConn) standing() standing {
	e := w.at.Load()
	switch {
	case w.shut:
		return notReady
	case e.waits && e.failed == nil:
		return isWaiting
	case !w.connected || e.state.ConnectivityState != connectivity.Ready:
		return notReady
	case e.health.known && e.health.state.ConnectivityState != connectivity.Ready:
		return notReady
	default:
		return isReady
	}
}

// count brings the readiness of the leaf of a wrapper up to date. It must be called with mu held, after any change that
// standing depends on, and before the policy of the leaf can learn of that.
func (p *pool) count(w *subConn) {
	o := w.owner
	if o == nil || o.toldTally == nil {
		return
	}
	now := w.standing()
	if now == w.stands {
		return
	}
	o.tally.add(w.stands, -1)
	o.tally.add(now, 1)
	if w.stands = now; !o.tallied {
		o.tallied = true
		o.toldTally()
	}
}

// countAll calls count for all wrappers of an entry.
func (p *pool) countAll(e *entry) {
	for _, w := range e.users {
		p.count(w)
	}
}

func (r *readiness) add(s standing, n int) {
	switch s {
	case isReady:
		r.ready += n
	case isWaiting:
		r.waiting += n
	}
}

// takeTally is the event that count queues.
func (c *child) takeTally() {
	c.policy.pool.mu.Lock()
	r := c.tally
	c.tallied = false
	c.policy.pool.mu.Unlock()
	c.policy.apply(c.policy.core.leafReadiness(c.leaf, r))
}
