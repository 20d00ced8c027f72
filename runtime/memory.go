package runtime

import (
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/discovery"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/snapshot"
)

// saveDelay gathers the changes of a rollout into few writes.
const saveDelay = time.Second

// memory keeps the endpoints of one key on disk.
type memory struct {
	dir, key string
	logger   *slog.Logger

	mu      sync.Mutex
	saved   []*discovery.Backend
	known   bool                 // something was saved
	next    []*discovery.Backend // to be saved
	pending *time.Timer          // that will save next; nil: nothing to save
}

// memory returns where a key is remembered, a nil interface where WithSnapshotDir was not given. It
// must be called with mu held.
func (r *Registry) memory(s *source) discovery.Memory {
	if r.opts.snapshotDir == "" {
		return nil
	}
	// A range with the lease suffix holds more than one without.
	m := &memory{dir: r.opts.snapshotDir, key: s.rng.From + " to " + s.rng.End, logger: r.opts.logger}
	r.memories[s.rng] = m
	return m
}

// Load implements [discovery.Memory].
func (m *memory) Load() ([]*discovery.Backend, bool) {
	endpoints, saved, err := snapshot.Load(m.dir, m.key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	if err != nil {
		m.logger.Warn("the endpoints remembered on disk cannot be used", "key", m.key, "error", err)
		return nil, false
	}
	m.logger.Warn("etcd does not answer; starting from the endpoints remembered on disk",
		"key", m.key, "endpoints", len(endpoints), "age", time.Since(saved).Round(time.Second))
	backends := make([]*discovery.Backend, len(endpoints))
	for i, e := range endpoints {
		backends[i] = discovery.NewBackend(e, endpoint.EndpointJSON)
	}
	return backends, true
}

// Save implements [discovery.Memory]. It returns at once and writes a little later.
func (m *memory) Save(backends []*discovery.Backend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil && m.known && slices.Equal(backends, m.saved) {
		return
	}
	m.next = backends
	if m.pending == nil {
		m.pending = time.AfterFunc(saveDelay, m.write)
	}
}

// flush writes what is still to be written.
func (m *memory) flush() {
	m.mu.Lock()
	if m.pending != nil {
		m.pending.Stop()
	}
	m.mu.Unlock()
	m.write()
}

func (m *memory) write() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending == nil {
		return // the other of flush and the timer was first
	}
	m.pending = nil
	endpoints := make([]endpoint.Endpoint, len(m.next))
	for i, b := range m.next {
		endpoints[i] = b.Endpoint
	}
	if err := snapshot.Save(m.dir, m.key, endpoints, time.Now()); err != nil {
		m.logger.Warn("the endpoints cannot be remembered on disk", "key", m.key, "error", err)
		return
	}
	m.saved, m.known = m.next, true
}
