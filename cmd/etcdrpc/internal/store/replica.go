package store

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Replica keeps what etcd holds in some ranges, as far as the user may read it. It is safe for concurrent use.
type Replica struct {
	mu      sync.Mutex
	listing Listing // nil entries: none yet
}

// Follow keeps the replica as etcd is until ctx ends. changed is called after each change, and failed with why what is kept
// may be old; nil: it is not any more.
func (r *Replica) Follow(ctx context.Context, s *Store, changed func(), failed func(error), ranges ...KeyRange) {
	mirror := Mirror{
		Store: s, Ranges: ranges, Failed: failed,
		Listed: func(l Listing) {
			r.mu.Lock()
			r.listing = l
			r.mu.Unlock()
			changed()
		},
		Changed: func(_ int64, events []*clientv3.Event) {
			r.apply(events)
			changed()
		},
	}
	mirror.Run(ctx)
}

func (r *Replica) apply(events []*clientv3.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, event := range events {
		if e := EntryOf(event.Kv).Shortened(); event.Type == clientv3.EventTypeDelete {
			delete(r.listing.Entries, e.Key)
		} else {
			r.listing.Entries[e.Key] = e
		}
	}
}

// Look returns what is kept, sorted by key, and the listing that it began with, without entries. known is false until
// something has been listed.
func (r *Replica) Look() (entries []survey.Entry, of Listing, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of = r.listing
	of.Entries = nil
	return survey.InOrder(r.listing.Entries), of, r.listing.Entries != nil
}
