package targets

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

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

// handler answers Prometheus.
func handler(c *catalog) http.Handler {
	answer := func(w http.ResponseWriter, r *http.Request) {
		text, known, err := c.json()
		switch {
		case err != nil:
			http.Error(w, "the targets cannot be written as JSON", http.StatusInternalServerError)
		case !known: // Prometheus keeps the targets that it has
			http.Error(w, "etcd has not been read yet", http.StatusServiceUnavailable)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "no-store")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
		}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", answer)
	mux.HandleFunc("GET /sd", answer)
	return mux
}
