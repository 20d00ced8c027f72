package lease

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

var items = []Item{{
	Key:     func(clientv3.LeaseID) string { return "a" },
	Value:   "v",
	Leaving: "v!",
}}

// slowLease grants leases after a delay, as an etcd with a slow disk does.
type slowLease struct {
	clientv3.Lease
	answersAfter time.Duration
	granted      atomic.Int64
	revoked      atomic.Int64
}

func (l *slowLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	select {
	case <-time.After(l.answersAfter):
		return &clientv3.LeaseGrantResponse{ID: clientv3.LeaseID(l.granted.Add(1)), TTL: ttl}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *slowLease) Revoke(
	context.Context,
	clientv3.LeaseID,
) (*clientv3.LeaseRevokeResponse, error) {
	l.revoked.Add(1)
	return &clientv3.LeaseRevokeResponse{Header: &etcdserverpb.ResponseHeader{}}, nil
}

// A session waits longer for each further grant, uses the first lease that etcd
// grants, and revokes those that it grants later.
func TestGrant_SlowEtcd(t *testing.T) {
	for after, tries := range map[time.Duration]int64{
		time.Second:             1,
		2010 * time.Millisecond: 1,
		3500 * time.Millisecond: 2,
		12 * time.Second:        4,
	} {
		synctest.Test(t, func(t *testing.T) {
			leases := &slowLease{answersAfter: after}
			s := New(&clientv3.Client{Lease: leases}, Options{TTL: 15 * time.Second})
			e := s.core.Add(time.Now(), &Handle{}, items, false)
			began := time.Now()

			step := func() {
				var o reconcile.Op
				var d time.Duration
				s.locked(func(c *reconcile.Core, now time.Time) { o, d = c.Next(now) })

				if o != nil {
					s.do(o, d)
					return
				}

				select {
				case a := <-s.granted:
					s.locked(func(c *reconcile.Core, now time.Time) {
						c.OnLateGrant(now, a.Lease, a.TTL)
					})

				case <-time.After(100 * time.Millisecond):
				}
			}

			leased := false
			for !leased {
				step()
				s.locked(func(c *reconcile.Core, now time.Time) {
					leased = c.Status(now, e).Lease != 0
				})
			}

			if took := time.Since(began); took > after+200*time.Millisecond {
				t.Errorf("etcd answers after %v: the session has a lease after %v, want the first that etcd grants",
					after, took)
			}

			s.locked(func(c *reconcile.Core, now time.Time) { c.Drop(now, e) })

			for leases.revoked.Load() < tries && time.Since(began) < time.Minute {
				step()
			}

			granted := leases.granted.Load()

			revoked := leases.revoked.Load()
			if granted != tries || revoked != tries {
				t.Errorf("etcd answers after %v: %d leases were granted and %d revoked, want %d",
					after, granted, revoked, tries)
			}

			s.cancel()
		})
	}
}

// Close waits briefly for a grant under way, and revokes the lease.
func TestClose_GrantUnderWay(t *testing.T) {
	for after, lost := range map[time.Duration]bool{
		300 * time.Millisecond: false,
		8 * time.Second:        true,
	} {
		synctest.Test(t, func(t *testing.T) {
			leases := &slowLease{answersAfter: after}
			opts := Options{TTL: 15 * time.Second, Logger: slog.New(slog.DiscardHandler)}

			s := New(&clientv3.Client{Lease: leases}, opts)
			if _, err := s.Start("a", items, false); err != nil {
				t.Fatal(err)
			}

			synctest.Wait()

			if err := s.Close(t.Context()); err != nil {
				t.Errorf("granted after %v: Close = %v, want nil: no lease is held", after, err)
			}

			if got := leases.granted.Load() == 0; got != lost {
				t.Errorf("granted after %v: Close did not wait for the grant: %v, want %v", after,
					got, lost)
			}
		})
	}
}
