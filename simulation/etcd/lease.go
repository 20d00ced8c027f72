package etcd

import (
	"cmp"
	"slices"
	"time"
)

const (
	minTTL     = 2             // seconds; etcd's election timeout, one and a half times, rounded up
	maxTTL     = 9_000_000_000 // seconds
	expiryTick = 500 * time.Millisecond
)

// lease is a lease with the keys that live on it.
type lease struct {
	id, ttl int64
	expiry  time.Time // zero while there is no leader to count its time
	keys    map[string]struct{}
}

// remaining returns how long l has left at now. It is negative while l waits to be revoked.
func (l *lease) remaining(now time.Time) time.Duration {
	if l.expiry.IsZero() {
		return time.Duration(l.ttl) * time.Second
	}
	return l.expiry.Sub(now)
}

// sortedKeys returns the keys of l in the order in which they are deleted with it.
func (l *lease) sortedKeys() []string {
	keys := make([]string, 0, len(l.keys))
	for k := range l.keys {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// lessor holds the leases of a cluster. Their clock is the leader's: it stops while there is no leader.
type lessor struct {
	leases  map[int64]*lease
	primary bool
	began   time.Time // expired leases are looked for each expiryTick since then
	soonest time.Time // no lease expires before it; zero for none
}

func newLessor(began time.Time) lessor {
	return lessor{leases: map[int64]*lease{}, primary: true, began: began}
}

func (ls *lessor) clone() lessor {
	c := *ls
	c.leases = make(map[int64]*lease, len(ls.leases))
	for id, l := range ls.leases {
		d := &lease{id: l.id, ttl: l.ttl, expiry: l.expiry, keys: make(map[string]struct{}, len(l.keys))}
		for k := range l.keys {
			d.keys[k] = struct{}{}
		}
		c.leases[id] = d
	}
	return c
}

// grant adds a lease.
func (ls *lessor) grant(now time.Time, id, ttl int64) (*lease, error) {
	if ttl > maxTTL {
		return nil, errTTLTooLarge
	}
	if ls.leases[id] != nil {
		return nil, errLeaseExists
	}
	l := &lease{id: id, ttl: max(ttl, minTTL), keys: map[string]struct{}{}}
	ls.leases[id] = l
	ls.renew(now, l)
	return l, nil
}

// renew has l live for its whole TTL again.
func (ls *lessor) renew(now time.Time, l *lease) {
	if !ls.primary {
		l.expiry = time.Time{}
		return
	}
	l.expiry = now.Add(time.Duration(l.ttl) * time.Second)
	if ls.soonest.IsZero() || l.expiry.Before(ls.soonest) {
		ls.soonest = l.expiry
	}
}

// promote renews all leases, as a new leader does, and adds the time that its election may have taken.
func (ls *lessor) promote(now time.Time) {
	ls.primary, ls.soonest = true, time.Time{}
	for _, l := range ls.leases {
		ls.renew(now.Add(electionTimeout), l)
	}
}

// demote stops the clock of all leases.
func (ls *lessor) demote() {
	ls.primary, ls.soonest = false, time.Time{}
	for _, l := range ls.leases {
		l.expiry = time.Time{}
	}
}

// tick returns when a lease that expires at t is found expired.
func (ls *lessor) tick(t time.Time) time.Time {
	ticks := (t.Sub(ls.began) + expiryTick - 1) / expiryTick
	return ls.began.Add(ticks * expiryTick)
}

// due returns when the next lease is found expired; zero for never.
func (ls *lessor) due() time.Time {
	if ls.soonest.IsZero() {
		return time.Time{}
	}
	return ls.tick(ls.soonest)
}

// expired returns the leases to revoke at now, the longest expired first.
func (ls *lessor) expired(now time.Time) []*lease {
	due := ls.due()
	if due.IsZero() || now.Before(due) {
		return nil
	}
	var out []*lease
	ls.soonest = time.Time{}
	for _, l := range ls.leases {
		if !now.Before(ls.tick(l.expiry)) {
			out = append(out, l)
		} else if ls.soonest.IsZero() || l.expiry.Before(ls.soonest) {
			ls.soonest = l.expiry
		}
	}
	slices.SortFunc(out, byExpiry)
	return out
}

// byExpiry orders leases by their end.
func byExpiry(a, b *lease) int {
	if c := a.expiry.Compare(b.expiry); c != 0 {
		return c
	}
	return cmp.Compare(a.id, b.id)
}

// move takes a key from one lease to another; 0 is none.
func (ls *lessor) move(key string, from, to int64) {
	if l := ls.leases[from]; l != nil {
		delete(l.keys, key)
	}
	if l := ls.leases[to]; l != nil {
		l.keys[key] = struct{}{}
	}
}
