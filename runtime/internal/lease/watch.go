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
	heard bool // the value of the key is known
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

		watched = watched && w.heard
	}

	s.core.SetWatched(time.Now(), watched)
}

// watch starts a watch of a key.
func (s *Session) watch(key string) *watch {
	w := &watch{}
	read := func(kv *mvccpb.KeyValue) (reconcile.KeyValue, bool, error) {
		return *keyValueOf(kv), true, nil
	}
	w.stop = s.group.Follow(listwatch.Range{From: key}, read, func(u listwatch.Update[reconcile.KeyValue]) {
		s.locked(func(c *reconcile.Core, now time.Time) {
			if s.watches[key] != w {
				return
			}

			// a read that failed tells nothing of the watch, but a refusal that
			// there is none
			if u.Err != nil {
				w.heard = w.heard && !etcderr.Refused(u.Err)
			} else {
				w.heard = true

				var observed *reconcile.KeyValue // nil if the key is absent
				if items := u.Snapshot.Items; len(items) > 0 {
					observed = &items[0].Value
				}

				c.OnWatch(now, key, observed, u.Snapshot.Revision)
			}
		})

		s.poke()
	})

	return w
}
