package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// relist spaces the lists that notice what no watch tells: rights that were granted, and a restored etcd that has
	// come as far as before.
	relist = time.Minute
	// recheck spaces the looks whether etcd answers, and is where it was. A watch tells neither.
	recheck = 2 * time.Second
)

// Mirror follows what etcd holds in some ranges, as far as the user may read it. It lists, watches from there on, and lists
// anew when a watch fails, when etcd has been restored from a backup, when a right is lost, and each minute.
type Mirror struct {
	Store  *Store
	Ranges []KeyRange

	Listed  func(Listing)                                  // takes the place of all that was told before
	Changed func(revision int64, events []*clientv3.Event) // told by several goroutines at once
	Failed  func(error)                                    // what was told may be old; nil: it is not any more

	relist, recheck time.Duration // 0: those above
	seen            atomic.Int64  // the revision that etcd has reached
}

// Run ends with ctx.
func (m *Mirror) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := m.follow(ctx); err != nil && ctx.Err() == nil {
			m.Failed(fmt.Errorf("%w; trying again", err))
			Pause(ctx, RetryAfter)
		}
	}
}

// follow lists and then watches, and returns nil when it is time to list anew.
func (m *Mirror) follow(ctx context.Context) error {
	l, err := m.Store.List(ctx, m.Ranges...)
	if err != nil {
		return err
	}
	m.seen.Store(l.Revision)
	m.Listed(l)
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(m.relist, relist))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	ended := make(chan error, len(l.Parts)+1)
	for n, part := range l.Parts {
		running.Go(func() { ended <- m.watch(ctx, part, l.revisions[n]) })
	}
	running.Go(func() { ended <- m.check(ctx, l.Parts[0].From) })
	if err = <-ended; ctx.Err() != nil {
		return nil
	}
	return err
}

// watch tells what happens in a part after a revision.
func (m *Mirror) watch(ctx context.Context, part KeyRange, revision int64) error {
	return m.Store.Replay(clientv3.WithRequireLeader(ctx), part, revision, func(resp clientv3.WatchResponse) error {
		for seen := m.seen.Load(); seen < resp.Header.Revision && !m.seen.CompareAndSwap(seen, resp.Header.Revision); seen = m.seen.Load() {
		}
		m.Changed(resp.Header.Revision, resp.Events)
		return nil
	})
}

// check tells when etcd does not answer, and when it does again. It returns once what was listed holds no more: the right
// to a key is lost, or etcd has gone back.
func (m *Mirror) check(ctx context.Context, key string) error {
	ticker := time.NewTicker(cmp.Or(m.recheck, recheck))
	defer ticker.Stop()
	quick, failed := m.Store.Quick(), false
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		seen := m.seen.Load()
		revision, err := quick.Revision(ctx, key)
		if ctx.Err() != nil || errors.Is(err, ErrDenied) || err == nil && revision < seen {
			return nil
		}
		if err != nil || failed {
			m.Failed(err)
		}
		failed = err != nil
	}
}
