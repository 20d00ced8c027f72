package targets

import (
	"context"
	"fmt"
	"io"
	"net/http"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// Follower keeps the targets of the services under a prefix, as etcd has them. It answers Prometheus.
type Follower struct {
	http.Handler
	mirror  store.Mirror
	configs store.KeyRange // of the live configs
}

// NewFollower returns a follower that asks nothing of etcd until it runs. What goes wrong, and what may not be read, is
// written to notes.
func NewFollower(s *store.Store, prefix string, port Port, notes io.Writer) *Follower {
	c := newCatalog(port)
	f, note := &Follower{Handler: handler(c), configs: store.ConfigsUnder(prefix)}, output.Once(notes)
	f.mirror = store.Mirror{
		Store: s, Ranges: []store.KeyRange{store.PrefixRange(prefix), f.configs},
		Listed: func(l store.Listing) {
			c.replace(l.Entries)
			note(f.missing(&l))
		},
		Changed: func(_ int64, events []*clientv3.Event) { c.apply(events) },
		Failed: func(err error) {
			if err != nil {
				note(fmt.Sprintf("etcdrpc: %s", err))
			}
		},
	}
	return f
}

// Run follows etcd until ctx ends.
func (f *Follower) Run(ctx context.Context) { f.mirror.Run(ctx) }

// missing says what of the targets is not known, "" for nothing.
func (f *Follower) missing(l *store.Listing) string {
	if l.Whole {
		return ""
	}
	s := f.mirror.Store
	text := store.PartOnly(s.User, l.Parts)
	if !l.Reads(f.configs) {
		text += "\n" + s.NoConfigs(f.configs, store.DrainUnseen)
	}
	return text
}
