package targets

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/store"
	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/survey"
)

// Follower keeps the targets of the services under a prefix, as etcd has them. It answers Prometheus.
type Follower struct {
	http.Handler
	prefix  string
	port    Port
	replica store.Replica
	note    func(string)
	refused func(string) // notes what [store.Store.Refused] says

	mu   sync.Mutex
	text []byte // of an edition of the replica
	of   int
}

// NewFollower returns a follower that asks nothing of etcd until it runs. What goes wrong, and what may not be read, is
// written to notes.
func NewFollower(s *store.Store, prefix string, port Port, notes io.Writer) *Follower {
	mux := http.NewServeMux()
	f := &Follower{Handler: mux, prefix: prefix, port: port, note: output.Once(notes), refused: output.Once(notes)}
	f.replica.Store, f.replica.Ranges, f.replica.Wanted = s, store.RangesUnder(prefix), store.PrefixRange(prefix)
	f.replica.Changed, f.replica.Failed = f.changed, f.failed
	mux.HandleFunc("GET /{$}", f.answer)
	mux.HandleFunc("GET /sd", f.answer)
	return f
}

// Run follows etcd until ctx ends.
func (f *Follower) Run(ctx context.Context) { f.replica.Run(ctx) }

func (f *Follower) changed([]store.Change) {
	l := f.replica.Listing()
	f.note(f.replica.Store.Unread(&l, f.prefix))
}

func (f *Follower) failed(err error) {
	if err != nil {
		f.note(fmt.Sprintf("etcdrpc: %s", err))
	}
}

// json returns the targets, nil until the entries have been listed once.
func (f *Follower) json() (text []byte, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.of != f.replica.Listing().Edition {
		entries, l := f.replica.Look()
		services := survey.All(entries)
		f.refused(f.replica.Store.Refused(services, store.DrainUnseen))
		f.text, err = output.Marshal(Of(services, f.prefix, f.port), "")
		f.of = l.Edition
	}
	return f.text, err
}

func (f *Follower) answer(w http.ResponseWriter, r *http.Request) {
	text, err := f.json()
	switch {
	case err != nil:
		http.Error(w, "the targets cannot be written as JSON", http.StatusInternalServerError)
	case text == nil: // Prometheus keeps the targets that it has
		http.Error(w, "etcd has not been read yet", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	}
}
