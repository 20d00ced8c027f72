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
)

var items = []Item{{Key: func(clientv3.LeaseID) string { return "a" }, Value: "v", Leaving: "v!"}}

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

func (l *slowLease) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	l.revoked.Add(1)
	return &clientv3.LeaseRevokeResponse{Header: &etcdserverpb.ResponseHeader{}}, nil
}

// A session waits longer for each further grant, until etcd answers in time, and revokes the leases that are granted later.
func TestGrant_SlowEtcd(t *testing.T) {
	for after, tries := range map[time.Duration]int64{time.Second: 1, 3500 * time.Millisecond: 3, 12 * time.Second: 5} {
		synctest.Test(t, func(t *testing.T) {
			leases := &slowLease{answersAfter: after}
			s := New(&clientv3.Client{Lease: leases}, Options{TTL: 15 * time.Second})
			e := s.core.Add(time.Now(), &Handle{}, items, false)
			for s.core.Status(time.Now(), e).Lease == 0 {
				if o, d := s.core.Next(time.Now()); o != nil {
					s.do(o, d)
				} else {
					time.Sleep(d)
				}
				synctest.Wait() // for late grants and revocations
			}
			s.wg.Wait()
			if n := leases.granted.Load(); n != tries {
				t.Errorf("etcd answers after %v: %d leases were granted, want %d", after, n, tries)
			}
			for s.core.Drop(time.Now(), e); s.core.Leftover(nil) != nil; {
				o, d := s.core.Next(time.Now())
				if o == nil {
					t.Fatalf("etcd answers after %v: %v", after, s.core.Leftover(nil))
				}
				s.do(o, d)
				s.wg.Wait()
			}
			if n := leases.revoked.Load(); n != tries {
				t.Errorf("etcd answers after %v: %d of %d leases were revoked", after, n, tries)
			}
			s.cancel()
		})
	}
}

// Close waits briefly for a grant under way, and revokes the lease.
func TestClose_GrantUnderWay(t *testing.T) {
	for after, lost := range map[time.Duration]bool{300 * time.Millisecond: false, 8 * time.Second: true} {
		synctest.Test(t, func(t *testing.T) {
			leases := &slowLease{answersAfter: after}
			s := New(&clientv3.Client{Lease: leases}, Options{TTL: 15 * time.Second, Logger: slog.New(slog.DiscardHandler)})
			if _, err := s.Start("a", items, false); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if err := s.Close(t.Context()); err != nil {
				t.Errorf("granted after %v: Close = %v, want nil: no lease is held", after, err)
			}
			if got := leases.granted.Load() == 0; got != lost {
				t.Errorf("granted after %v: Close did not wait for the grant: %v, want %v", after, got, lost)
			}
		})
	}
}
