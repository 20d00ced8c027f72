package lease

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/backoff"
)

const (
	// youngLease is the age below which the loss of a lease delays the next grant.
	youngLease = 5 * time.Second
	// maxPresumed is how many earlier leases are revoked again when etcd was restored.
	maxPresumed = 64
)

// The etcd client renews a lease each third of its TTL, on one stream to one member. When half of the
// TTL has passed without an answer, or the lease is suspected to be gone, it is renewed out of turn, on another
// connection if there is one, until an answer comes. The attempts are renewSpacing of a TTL apart, within these limits.
const (
	renewSpacing    = 16
	renewSpacingMin = 100 * time.Millisecond
	renewSpacingMax = time.Second
)

// heldLease is a lease of the session: the current one, or a retired one that is not revoked yet.
type heldLease struct {
	id         clientv3.LeaseID
	granted    time.Time
	life       time.Duration // the TTL, as etcd gave it
	expires    time.Time     // unless it is renewed
	renewAt    time.Time     // no renewal out of turn before
	suspected  time.Time     // since when it may have been revoked, for a key on it has gone; zero: nothing says so
	tombstones []*slot       // the keys that were on it and must stay absent
	presumed   bool          // seemed to be gone, and may be back
	denied     bool          // etcd does not let us revoke it
	revoking   bool          // a revocation was sent, so that it may be gone
	retryAt    time.Time     // no revocation before
}

// leases are those of a session. One is current, then retired, then gone. A retired one is revoked when no wanted key is
// on it.
type leases struct {
	ttl    time.Duration
	jitter func(time.Duration) time.Duration // shortens a pause at random

	lease       clientv3.LeaseID   // the current one; 0: none
	held        []*heldLease       // the current one, and the retired ones
	everGranted []clientv3.LeaseID // every lease that was granted to this session, however long ago
	replace     error              // why the current lease is to be replaced; nil: it is not

	grantAt      time.Time // no grant before
	grants       backoff.Backoff
	young        bool // the last lease that was replaced was young
	replacements backoff.Backoff
	endings      backoff.Backoff // of keepalives of young leases
}

func newLeases(ttl time.Duration, jitter func(time.Duration) time.Duration) leases {
	return leases{
		ttl: ttl, jitter: jitter,
		grants:       backoff.Backoff{Base: 200 * time.Millisecond, Max: time.Second},
		replacements: backoff.Backoff{Base: 200 * time.Millisecond, Max: time.Second},
		endings:      backoff.Backoff{Base: 500 * time.Millisecond, Max: 30 * time.Second},
	}
}

// get returns a lease of the session, nil if there is no such lease.
func (l *leases) get(id clientv3.LeaseID) *heldLease {
	i := slices.IndexFunc(l.held, func(h *heldLease) bool { return h.id == id })
	if i < 0 {
		return nil
	}
	return l.held[i]
}

// alive reports whether a lease of the session has not expired, as far as known.
func (l *leases) alive(now time.Time, id clientv3.LeaseID) bool {
	h := l.get(id)
	return h != nil && now.Before(h.expires)
}

// kept reports whether a lease is alive and no revocation of it was sent.
func (l *leases) kept(now time.Time, id clientv3.LeaseID) bool {
	return l.alive(now, id) && !l.get(id).revoking
}

// undone reports whether earlier leases have yet to be revoked that etcd may have again, with keys that were deleted.
func (l *leases) undone() bool {
	return slices.ContainsFunc(l.held, func(h *heldLease) bool { return h.presumed && !h.denied })
}

// unrevoked reports whether there are leases that etcd may let us revoke.
func (l *leases) unrevoked() bool {
	return slices.ContainsFunc(l.held, func(h *heldLease) bool { return !h.denied })
}

// isOwn reports whether a lease was ever granted to this session.
func (l *leases) isOwn(id clientv3.LeaseID) bool {
	return id != 0 && slices.Contains(l.everGranted, id)
}

// own adds a lease that etcd granted.
func (l *leases) own(now time.Time, id clientv3.LeaseID, life time.Duration) {
	l.held = append(l.held, &heldLease{id: id, granted: now, life: life, expires: now.Add(life)})
	l.everGranted = append(l.everGranted, id)
}

// hold adds a lease as own does, and makes it the current one.
func (l *leases) hold(now time.Time, id clientv3.LeaseID, life time.Duration) {
	l.own(now, id, life)
	l.lease, l.replace = id, nil
}

// retire leaves the session without a current lease.
func (l *leases) retire() { l.lease, l.replace = 0, nil }

// replaceLease has the entries move from a lease to another one, if it is the current one. It need not be
// dead. Leases that are replaced young, one after the other, are replaced less and less often.
func (l *leases) replaceLease(now time.Time, id clientv3.LeaseID, why error) {
	if id != l.lease || id == 0 || l.replace != nil {
		return
	}
	l.replace = why
	if now.Sub(l.get(id).granted) >= youngLease {
		l.young = false
		l.replacements.Reset()
		l.endings.Reset()
		return
	}
	if l.young {
		l.delayGrant(now, &l.replacements)
	}
	l.young = true
}

// spaceGrants has the next grant wait, longer each time, because etcd grants none or leases are lost young.
func (l *leases) spaceGrants(now time.Time) { l.grantAt = now.Add(l.jitter(l.grants.Bound())) }

// delayGrant has the next grant wait, longer each time, if it does not wait longer already.
func (l *leases) delayGrant(now time.Time, b *backoff.Backoff) {
	l.grantAt = latest(l.grantAt, now.Add(l.jitter(b.Bound())))
}

// replaceEnded replaces a lease whose keepalive has ended. It need not be dead: the client may have given up for reasons of
// its own. If it does so again and again there is time, for the lease is renewed out of turn.
func (l *leases) replaceEnded(now time.Time, id clientv3.LeaseID, err error) {
	young := l.young
	l.replaceLease(now, id, err)
	if young && l.young && id == l.lease {
		l.delayGrant(now, &l.endings)
	}
}

// replaceLate replaces the current lease where it was not renewed in time.
func (l *leases) replaceLate(now time.Time) {
	if h := l.get(l.lease); h != nil && !now.Before(h.expires) && l.replace == nil {
		l.replace = fmt.Errorf("lease %x was not renewed for %v", int64(h.id), h.life)
	}
}

// drop takes in that a lease does not exist any more, and reports whether it was the current one. err is nil if this
// session revoked it.
func (l *leases) drop(now time.Time, id clientv3.LeaseID, err error) (current bool) {
	h := l.get(id)
	l.held = slices.DeleteFunc(l.held, func(h *heldLease) bool { return h.id == id })
	if h != nil && !h.presumed && err != nil {
		l.presumeAlive(now, id) // an etcd that does not know this lease may know those before
	}
	if l.lease != id {
		return false
	}
	l.retire()
	if h != nil && now.Sub(h.granted) < youngLease {
		l.spaceGrants(now)
	} else {
		l.grants.Reset()
	}
	return true
}

// presumeAlive has earlier leases revoked again, except one that is known to be gone: a restored etcd may
// have them.
func (l *leases) presumeAlive(now time.Time, except clientv3.LeaseID) {
	for _, id := range l.everGranted[max(0, len(l.everGranted)-maxPresumed):] {
		if id != except && l.get(id) == nil {
			l.held = append(l.held, &heldLease{id: id, granted: now, life: l.ttl, expires: now.Add(l.ttl), presumed: true})
		}
	}
}

// markRevoking notes that a revocation is under way.
func (h *heldLease) markRevoking() { h.revoking = true }

// revokeDenied takes in that etcd does not let us revoke a lease. It is not renewed, so it expires; unwanted
// keys on it are deleted one by one.
func (l *leases) revokeDenied(now time.Time, id clientv3.LeaseID) {
	if h := l.get(id); h != nil {
		h.denied, h.revoking, h.retryAt = true, false, latest(h.expires, now.Add(refusedMin))
	}
}

// renewed takes in that etcd renewed a lease for a time.
func (l *leases) renewed(now time.Time, id clientv3.LeaseID, life time.Duration) {
	if h := l.get(id); h != nil {
		h.expires = now.Add(life)
	}
}

// confirm takes in that etcd renewed a lease on a request that was sent at a time. A suspicion that has arisen since stays.
func (l *leases) confirm(sent time.Time, id clientv3.LeaseID) {
	if h := l.get(id); h != nil && !sent.Before(h.suspected) {
		h.suspected = time.Time{}
	}
}

// suspect takes in that a key has gone from etcd. Its lease may have gone, too. The put would tell, but if that is to wait,
// the lease is renewed at once. There is one suspicion for each put of a key, so that who deletes keys again and again
// causes no more renewals than writes.
func (l *leases) suspect(now time.Time, s *slot) {
	if h := l.get(s.lease); h != nil && s.has == self && s.pending == nil && !s.suspected && s.putWaits(now) {
		s.suspected, h.suspected = true, now
	}
}

// suspects reports whether a renewal is to tell if a lease still exists.
func (l *leases) suspects(id clientv3.LeaseID) bool {
	h := l.get(id)
	return h != nil && !h.suspected.IsZero()
}

// renewalDue reports whether a lease is to be renewed out of turn now, and when to ask again.
func (l *leases) renewalDue(now time.Time, id clientv3.LeaseID) (due bool, wait time.Duration) {
	h := l.get(id)
	if h == nil {
		return false, tick
	}
	at := h.expires.Add(-h.life / 2)
	if !h.suspected.IsZero() {
		at = now
	}
	if at = latest(at, h.renewAt); now.Before(at) {
		return false, at.Sub(now)
	}
	wait = min(max(h.life/renewSpacing, renewSpacingMin), renewSpacingMax)
	h.renewAt = now.Add(wait)
	return true, wait
}

// addTombstone remembers a key that was deleted while its lease lives. If the key is back, etcd was
// restored. Of many the latest are remembered.
func (l *leases) addTombstone(key string, id clientv3.LeaseID) {
	if h := l.get(id); h != nil {
		h.tombstones = append(h.tombstones[max(0, len(h.tombstones)+1-maxTombstones):], &slot{key: key, stored: stored{has: absent}})
	}
}

// notRenewed returns why entries are lost whose lease has expired as far as known. It need not be the current one: a session
// that withdraws what it has is left without.
func (l *leases) notRenewed(id clientv3.LeaseID) error {
	if l.replace != nil {
		return l.replace
	}
	return fmt.Errorf("lease %x was not renewed in time", int64(cmp.Or(id, l.lease)))
}

// leftover returns an error that names the leases that a closed session leaves in etcd, nil if there are none.
func (l *leases) leftover(cause error) error {
	if len(l.held) == 0 {
		return nil
	}
	if cause == nil {
		cause = errors.New("etcd denies it")
	}
	var left []string
	life := time.Duration(0)
	for _, h := range l.held {
		left, life = append(left, fmt.Sprintf("lease %x", int64(h.id))), max(life, h.life)
	}
	return fmt.Errorf("not revoked, and left to expire within %v: %s: %w", life, strings.Join(left, ", "), cause)
}
