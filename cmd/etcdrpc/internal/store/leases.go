package store

import (
	"context"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/parallel"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// atOnce bounds the requests for leases that are under way at once.
const atOnce = 16

// Leases asks for the time left on each lease. The first that fails ends it.
func (s *Store) Leases(ctx context.Context, ids []int64) (map[int64]survey.LeaseTime, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		mu   sync.Mutex
		errs []error
		left = make(map[int64]survey.LeaseTime, len(ids))
	)
	parallel.Each(len(ids), atOnce, func(n int) {
		t, err := s.lease(ctx, ids[n])
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			errs = append(errs, err)
			cancel()
			return
		}
		left[ids[n]] = t
	})
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return left, nil
}

func (s *Store) lease(ctx context.Context, id int64) (survey.LeaseTime, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	resp, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return survey.LeaseTime{}, s.explain(fmt.Sprintf("ask for the time left on lease %x", id), err)
	}
	return survey.LeaseTime{Left: resp.TTL, Granted: resp.GrantedTTL}, nil
}
