package store

import (
	"context"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Settle is how long changes are collected before they are shown.
const Settle = 50 * time.Millisecond

// RetryAfter spaces the attempts after etcd failed.
const RetryAfter = time.Second

// CompactedError is the first revision that etcd has not forgotten, where a watch asked for an earlier one.
type CompactedError int64

func (CompactedError) Error() string { return rpctypes.ErrCompacted.Error() }

// Replay hands over what has happened in a range after a revision, and what happens on, until it cannot any more or told
// returns an error.
func (s *Store) Replay(ctx context.Context, r KeyRange, revision int64, told func(clientv3.WatchResponse) error, opts ...clientv3.OpOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts = append(opts, clientv3.WithRange(r.End), clientv3.WithRev(revision+1), clientv3.WithFragment())
	for resp := range s.watcher.Watch(ctx, r.From, opts...) {
		if err := resp.Err(); err != nil {
			if resp.CompactRevision > 0 {
				err = CompactedError(resp.CompactRevision)
			}
			return s.explain(fmt.Sprintf("watch %q", s.named(r.From)), err)
		}
		if err := told(resp); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// Pause waits for a time, or until ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
