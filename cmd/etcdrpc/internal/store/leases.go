package store

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
)

// maxLeaseRequests bounds concurrent requests for leases.
const maxLeaseRequests = 16

// Leases returns the time left on each lease. It stops at the first error.
func (s *Store) Leases(ctx context.Context, ids []int64) (map[int64]inventory.LeaseTime, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxLeaseRequests)
	times := make([]inventory.LeaseTime, len(ids))
	for n, id := range ids {
		group.Go(func() (err error) {
			times[n], err = s.lease(ctx, id)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	left := make(map[int64]inventory.LeaseTime, len(ids))
	for n, id := range ids {
		left[id] = times[n]
	}
	return left, nil
}

// AddLeases sets the time left on the leases of entries.
func (s *Store) AddLeases(ctx context.Context, entries []*inventory.Instance) error {
	left, err := s.Leases(ctx, inventory.LeaseIDs(entries))
	for _, i := range entries {
		if t, ok := left[i.Entry.Lease]; ok {
			i.Lease = &t
		}
	}
	return err
}

func (s *Store) lease(ctx context.Context, id int64) (inventory.LeaseTime, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return inventory.LeaseTime{}, s.explain(fmt.Sprintf("read the time left on lease %x", id), err)
	}
	return inventory.LeaseTime{Left: resp.TTL, Granted: resp.GrantedTTL}, nil
}
