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

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
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

// Listing is all that a mirror may read, at one time.
type Listing struct {
	Entries  map[string]survey.Entry // by their keys
	Revision int64
	Parts    []KeyRange // what may be read, sorted, without overlap
	Whole    bool       // that is all of the ranges

	revisions []int64 // at which each part was read
}

// Has reports whether a key may be read.
func (l *Listing) Has(key string) bool { return Within(l.Parts, KeyOnly(key)) }

// Reads reports whether some of a range may be read.
func (l *Listing) Reads(r KeyRange) bool { return overlaps(l.Parts, r) }

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
	l, err := m.list(ctx)
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

// list reads all that the user may. The error is ErrDenied if that is nothing.
func (m *Mirror) list(ctx context.Context) (Listing, error) {
	l := Listing{Entries: make(map[string]survey.Entry), Whole: true}
	var denied error
	for _, r := range disjoint(m.Ranges) {
		err := m.scan(ctx, &l, r)
		if errors.Is(err, ErrDenied) {
			l.Whole, denied = false, err
			err = m.scan(ctx, &l, m.allowed(ctx, r)...)
		}
		if err != nil {
			return l, err
		}
	}
	if len(l.Parts) == 0 {
		return l, denied
	}
	return l, nil
}

// scan adds parts to a listing.
func (m *Mirror) scan(ctx context.Context, l *Listing, parts ...KeyRange) error {
	for _, part := range parts {
		entries, revision, err := m.Store.Scan(ctx, part)
		if err != nil {
			return err
		}
		for _, e := range entries {
			l.Entries[e.Key] = e
		}
		l.Revision = max(l.Revision, revision)
		l.Parts, l.revisions = append(l.Parts, part), append(l.revisions, revision)
	}
	return nil
}

// allowed returns what the roles of the user allow to read of a range, as far as they are known.
func (m *Mirror) allowed(ctx context.Context, r KeyRange) []KeyRange {
	if m.Store.User == "" {
		return nil
	}
	parts, err := m.Store.readable(ctx, r)
	if err != nil {
		return nil
	}
	return parts
}
