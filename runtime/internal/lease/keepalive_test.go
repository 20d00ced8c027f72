package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// farLease answers a renewal after a while.
type farLease struct {
	clientv3.Lease
	answersAfter time.Duration
}

func (farLease) TimeToLive(context.Context, clientv3.LeaseID, ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	return &clientv3.LeaseTimeToLiveResponse{}, nil
}

func (l farLease) KeepAliveOnce(_ context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	time.Sleep(l.answersAfter)
	return &clientv3.LeaseKeepAliveResponse{ID: id, TTL: 10}, nil
}

// A renewal proves that the lease lives from when it was sent: etcd may have taken it in at once.
func TestConfirmedFromTheSending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const id = 7
		s := New(&clientv3.Client{Lease: farLease{answersAfter: time.Second}}, Options{TTL: 10 * time.Second})
		granted := time.Now()
		s.core.lease = id
		s.core.held = []*heldLease{{id: id, life: 10 * time.Second, expires: granted.Add(10 * time.Second), confirmed: granted}}
		time.Sleep(3 * time.Second)
		sent := time.Now()
		s.renewOnce(t.Context(), id, make(chan struct{}, 1))
		s.wg.Wait()
		if got := s.core.get(id).confirmed; !got.Equal(sent) {
			t.Errorf("proven %v after the renewal was sent", got.Sub(sent))
		}
	})
}
