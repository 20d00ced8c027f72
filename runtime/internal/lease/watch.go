package lease

import (
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// watch follows one key, to notice changes by other processes at once.
type watch struct {
	stop  func()
	known bool // the value of the key is known
}

// watchKeys starts and stops watches so that the keys of registered entries are
// watched. It must be called with mu held.
func (s *Session) watchKeys() {
	var keys []string
	if s.ctx.Err() == nil {
		keys = s.core.RegisteredKeys(reconcile.MaxWatches)
	}

	for key, w := range s.watches {
		if !slices.Contains(keys, key) {
			w.stop()
			delete(s.watches, key)
		}
	}

	watched := len(keys) > 0
	for _, key := range keys {
		w := s.watches[key]
		if w == nil {
			w = s.watch(key)
			s.watches[key] = w
		}

		watched = watched && w.known
	}

	s.core.SetWatched(time.Now(), watched)
}

// watch starts a watch of a key.
func (s *Session) watch(key string) *watch {
	w := &watch{}
	read := func(kv *mvccpb.KeyValue) (reconcile.KeyValue, bool, error) {
		return *keyValueOf(kv), true, nil
	}

	update := func(u listwatch.Update[reconcile.KeyValue]) {
		s.onUpdate(key, w, u)
		s.poke()
	}

	w.stop = s.group.Follow(listwatch.Range{From: key}, read, update)

	return w
}

// onUpdate handles the result of a read of a watched key.
func (s *Session) onUpdate(key string, w *watch, u listwatch.Update[reconcile.KeyValue]) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if s.watches[key] != w {
		return // the watch was stopped
	}

	if u.Err != nil {
		// the watch may still work after a failed read, but not after a refusal
		w.known = w.known && !etcderr.Refused(u.Err)
		return
	}

	w.known = true

	var observed *reconcile.KeyValue // nil if the key is absent
	if items := u.Snapshot.Items; len(items) > 0 {
		observed = &items[0].Value
	}

	s.core.OnWatch(time.Now(), key, observed, u.Snapshot.Revision)
}
