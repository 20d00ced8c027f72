package lease

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	askTimeout  = 2 * time.Second // bounds the read before a renewal out of turn
	maxRenewals = 4               // the maximum of unanswered renewals out of turn, for each lease
)

// renewLeases starts and stops renewals so that exactly the leases with these ids are renewed. It must be called with mu held.
func (s *Session) renewLeases(ids []clientv3.LeaseID) {
	for id, stop := range s.renewals {
		if !slices.Contains(ids, id) {
			stop()
			delete(s.renewals, id)
		}
	}
	for _, id := range ids {
		if s.renewals[id] == nil && s.ctx.Err() == nil {
			ctx, stop := context.WithCancel(s.ctx)
			s.renewals[id] = stop
			s.wg.Go(func() { s.keepAlive(ctx, id) })
		}
	}
}

// keepAlive receives the answers to the etcd client's keepalives, and renews the lease out of turn if none come. The client may
// end its keepalives for its own reasons, or because the lease is gone. keepAlive restarts them at most once a second.
func (s *Session) keepAlive(ctx context.Context, id clientv3.LeaseID) {
	var answers <-chan *clientv3.LeaseKeepAliveResponse
	waiting := make(chan struct{}, maxRenewals)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var begun time.Time
	for {
		select {
		case answer, ok := <-answers:
			if !ok {
				answers = nil
				s.renewOnce(ctx, id, waiting) // finds out whether the lease is gone
				timer.Reset(0)
			} else if answer != nil {
				s.renewed(id, answer)
			}
			continue
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if answers == nil && time.Since(begun) >= renewSpacingMax {
			begun = time.Now()
			answers, _ = s.client.Lease.KeepAlive(ctx, id) // if nil, each renewal is out of turn
		}
		var due bool
		var wait time.Duration
		s.locked(func(c *core, now time.Time) { due, wait = c.renewalDue(now, id) })
		if due {
			s.renewOnce(ctx, id, waiting)
		}
		if answers == nil {
			wait = min(wait, renewSpacingMax)
		}
		timer.Reset(wait)
	}
}

func (s *Session) renewed(id clientv3.LeaseID, answer *clientv3.LeaseKeepAliveResponse) {
	life := time.Duration(answer.TTL) * time.Second
	var revision int64
	if answer.ResponseHeader != nil {
		revision = answer.GetRevision()
	}
	s.locked(func(c *core, now time.Time) { c.onRenewal(now, id, life, revision) })
	s.poke()
}

// KeepAliveOnce renews a lease on a separate stream, which the etcd client opens to the next of its endpoints. The client retries
// without a pause. So the lease is first read, within timeout, and the renewal gets little more time than the read took.
func KeepAliveOnce(ctx context.Context, leases clientv3.Lease, id clientv3.LeaseID, timeout time.Duration) (*clientv3.LeaseKeepAliveResponse, error) {
	asked := time.Now()
	reading, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := leases.TimeToLive(reading, id); err != nil && !isRefusal(err) {
		return nil, err // a renewal would fail, too
	}
	ctx, cancel = context.WithTimeout(ctx, 4*time.Since(asked)+100*time.Millisecond)
	defer cancel()
	return leases.KeepAliveOnce(ctx, id)
}

// renewOnce renews a lease out of turn.
func (s *Session) renewOnce(ctx context.Context, id clientv3.LeaseID, waiting chan struct{}) {
	select {
	case waiting <- struct{}{}:
	default:
		return
	}
	s.wg.Go(func() {
		defer func() { <-waiting }()
		answer, err := KeepAliveOnce(ctx, s.client.Lease, id, askTimeout)
		if err == nil {
			s.renewed(id, answer)
			return
		}
		s.locked(func(c *core, now time.Time) { c.onRenewalFailed(now, id, err) })
		s.poke()
	})
}
