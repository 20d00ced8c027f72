package lease

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// slowLease grants a lease after a delay, as an etcd with a slow disk does.
type slowLease struct {
	clientv3.Lease
	answersAfter time.Duration
}

func (l slowLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	select {
	case <-time.After(l.answersAfter):
		return &clientv3.LeaseGrantResponse{ID: 7, TTL: ttl}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (slowLease) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return &clientv3.LeaseRevokeResponse{Header: &etcdserverpb.ResponseHeader{}}, nil
}

// The session waits for a grant as long as etcd itself may take, and revokes a lease that is granted later.
func TestGrant_SlowEtcd(t *testing.T) {
	for after, inTime := range map[time.Duration]bool{3500 * time.Millisecond: true, 7 * time.Second: true, 12 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			s := New(&clientv3.Client{Lease: slowLease{answersAfter: after}}, Options{TTL: 15 * time.Second})
			s.do(grantOp{15 * time.Second})
			if got := s.core.lease == 7; got != inTime {
				t.Errorf("etcd answers the grant after %v: lease 7 is current %v, want %v", after, got, inTime)
			}
			s.wg.Wait()
			s.cancel()
			if o := s.core.due(time.Now()); !inTime && o != (revokeOp{7}) {
				t.Errorf("etcd answers the grant after %v: the next call is %+v, want a revocation of lease 7", after, o)
			}
		})
	}
}

// Close waits for a pending grant, and revokes the lease or reports it as left.
func TestClose_GrantUnderWay(t *testing.T) {
	for after, left := range map[time.Duration]bool{7 * time.Second: false, 12 * time.Second: true} {
		synctest.Test(t, func(t *testing.T) {
			s := New(&clientv3.Client{Lease: slowLease{answersAfter: after}}, Options{TTL: 15 * time.Second, Logger: slog.New(slog.DiscardHandler)})
			if _, err := s.Start(item("a", "v"), false); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if err := s.Close(t.Context()); (err != nil) != left || left && !strings.Contains(err.Error(), "a lease that etcd has yet to grant") {
				t.Errorf("granted after %v: Close = %v, want an error that reports the lease: %v", after, err, left)
			}
		})
	}
}
