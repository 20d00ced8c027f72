package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// Replica keeps what etcd holds in some ranges, as far as the user may read it. It lists, watches from there on, and lists
// anew when a watch fails, when etcd has been restored from a backup, when a right is lost, and each minute. It is safe for
// concurrent use.
type Replica struct {
	Store  *Store
	Ranges []KeyRange
	Wanted KeyRange // of these, the one of which some must be readable: else what is kept stays, for it would look empty

	Changed func([]Change) // called after each change, by several goroutines at once
	Failed  func(error)    // called with why what is kept may be old; nil: it is not, or not any more

	relist, recheck time.Duration // 0: those above

	mu      sync.Mutex
	listing Listing
}

// Run keeps the replica as etcd is until ctx ends.
func (r *Replica) Run(ctx context.Context) {
	for ctx.Err() == nil {
		l, err := r.Store.List(ctx, r.Ranges...)
		if err == nil {
			err = r.Store.MayRead(&l, r.Wanted)
		}
		if err == nil {
			r.replace(l)
			r.Failed(nil)
			err = r.follow(ctx, &l)
		}
		if err != nil && ctx.Err() == nil {
			r.Failed(fmt.Errorf("%w; trying again", err))
			Pause(ctx, RetryAfter)
		}
	}
}

// follow watches what was listed, and returns nil when it is time to list anew.
func (r *Replica) follow(ctx context.Context, l *Listing) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(r.relist, relist))
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	ended := make(chan error, len(l.Parts)+1)
	for n, part := range l.Parts {
		running.Go(func() {
			ended <- r.Store.Replay(clientv3.WithRequireLeader(ctx), part, l.revisions[n], func(resp clientv3.WatchResponse) error {
				r.apply(resp.Header.Revision, resp.Events)
				return nil
			})
		})
	}
	running.Go(func() { ended <- r.check(ctx, l.Parts[0].From) })
	if err := <-ended; ctx.Err() == nil {
		return err
	}
	return nil
}

// check tells when etcd does not answer, and when it does again. It returns once what was listed holds no more: the right
// to a key is lost, or etcd has gone back.
func (r *Replica) check(ctx context.Context, key string) error {
	ticker := time.NewTicker(cmp.Or(r.recheck, recheck))
	defer ticker.Stop()
	quick, failed := r.Store.Quick(), false
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		seen := r.Listing().Revision
		revision, err := quick.Revision(ctx, key)
		if ctx.Err() != nil || errors.Is(err, ErrDenied) || err == nil && revision < seen {
			return nil
		}
		if err != nil || failed {
			r.Failed(err)
		}
		failed = err != nil
	}
}

// Listing returns what is kept, without entries.
func (r *Replica) Listing() Listing {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.listing
	l.Entries = nil
	return l
}

// Look returns what is kept, sorted by key, and the listing that it is of, without entries.
func (r *Replica) Look() ([]survey.Entry, Listing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.listing
	l.Entries = nil
	return survey.InOrder(r.listing.Entries), l
}

// replace takes in a list. What is different from what is kept counts as changed: what has come and gone again meanwhile is
// not known.
func (r *Replica) replace(l Listing) {
	r.mu.Lock()
	before := &r.listing
	changes := before.changesTo(&l)
	l.Edition, l.Era = before.Edition, before.Era
	anew := before.Edition == 0 || len(changes) > 0 || !slices.Equal(before.Parts, l.Parts)
	if anew {
		l.Edition++
		l.Era++
	}
	r.listing = l
	r.mu.Unlock()
	if anew {
		r.Changed(changes)
	}
}

// apply takes in what a watch tells.
func (r *Replica) apply(revision int64, events []*clientv3.Event) {
	r.mu.Lock()
	l := &r.listing
	l.Revision = max(l.Revision, revision)
	var changes []Change
	for _, event := range events {
		was, known := l.Entries[string(event.Kv.Key)]
		c := changeOf(event, was)
		if !c.Deleted {
			c.Entry = c.Shortened()
			l.Entries[c.Key] = c.Entry
		} else if !known {
			continue
		} else {
			delete(l.Entries, c.Key)
		}
		changes = append(changes, c)
	}
	if len(changes) > 0 {
		l.Edition++
	}
	r.mu.Unlock()
	if len(changes) > 0 {
		r.Changed(changes)
	}
}

// Change is what became of a key.
type Change struct {
	survey.Entry           // as it is now or, of one that was deleted, as it was
	Revision         int64 // at which it changed; 0: not known
	Created, Deleted bool  // neither: it has another value
}

// changeOf returns what an event tells. was is the entry before.
func changeOf(event *clientv3.Event, was survey.Entry) Change {
	c := Change{Entry: EntryOf(event.Kv), Revision: event.Kv.ModRevision, Created: event.IsCreate(), Deleted: event.Type == clientv3.EventTypeDelete}
	if c.Deleted {
		c.Entry = was
		c.Key = string(event.Kv.Key)
	}
	return c
}

// changesTo returns what is different in another listing, as far as both may be read, the oldest first.
func (l *Listing) changesTo(after *Listing) (all []Change) {
	if l.Edition == 0 {
		return nil
	}
	for key, e := range after.Entries {
		was, known := l.Entries[key]
		switch {
		case known && was.CreateRevision == e.CreateRevision && was.ModRevision == e.ModRevision && was.Lease == e.Lease && bytes.Equal(was.Value, e.Value):
		case known || l.Has(key): // of others nobody knows how long they have been there
			all = append(all, Change{Entry: e, Revision: e.ModRevision, Created: !known || was.CreateRevision != e.CreateRevision})
		}
	}
	for key, was := range l.Entries {
		if _, there := after.Entries[key]; !there && after.Has(key) {
			all = append(all, Change{Entry: was, Deleted: true})
		}
	}
	slices.SortFunc(all, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Revision, b.Revision), strings.Compare(a.Key, b.Key))
	})
	return all
}
