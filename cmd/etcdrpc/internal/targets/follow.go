package targets

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
)

// Follower keeps the targets under a prefix up to date with etcd, and serves them to Prometheus.
type Follower struct {
	http.Handler
	store  *store.Store
	prefix string
	port   Port
	note   func(string)
	text   atomic.Pointer[[]byte] // nil until the first read
}

// NewFollower returns a follower. It reads etcd only while Run runs, and writes errors and unreadable ranges to notes.
func NewFollower(s *store.Store, prefix string, port Port, notes io.Writer) *Follower {
	mux := http.NewServeMux()
	f := &Follower{Handler: mux, store: s, prefix: prefix, port: port, note: output.Once(notes)}
	mux.HandleFunc("GET /{$}", f.answer)
	mux.HandleFunc("GET /sd", f.answer)
	return f
}

// Run follows etcd until ctx ends.
func (f *Follower) Run(ctx context.Context) {
	f.store.Follow(ctx, func(ctx context.Context) (*store.Snapshot, error) { return f.store.Under(ctx, f.prefix) }, func(n *store.Snapshot, err error) {
		var text []byte
		if err == nil {
			f.note(n.Note)
			text, err = output.Marshal(Of(n.Services, f.prefix, f.port), "")
		}
		if err != nil {
			f.note(fmt.Sprintf("etcdrpc: %s; trying again", err))
			return
		}
		f.text.Store(&text)
	})
}

func (f *Follower) answer(w http.ResponseWriter, r *http.Request) {
	text := f.text.Load()
	if text == nil { // on an error Prometheus keeps its targets
		http.Error(w, "etcd has not been read yet", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(*text))
}
