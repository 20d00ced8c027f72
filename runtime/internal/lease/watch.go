package lease

import (
	"cmp"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// watch follows one key, to notice changes by other processes at once.
type watch struct {
	stop  func()
	heard bool // the value of the key is known
}

// newWatches returns the group of a session's watches. Failures of watches are not logged: checks find the same changes.
func newWatches(client *clientv3.Client, streams *listwatch.Streams) *listwatch.Group[keyValue] {
	return listwatch.NewGroup(listwatch.Config[keyValue]{
		Client: client, Streams: cmp.Or(streams, listwatch.NewStreams()), Equal: func(a, b keyValue) bool { return a == b },
		Logger: slog.New(slog.DiscardHandler), MaxRefusedPause: time.Minute, ProbeEvery: checkWatched,
	})
}

// watchKeys starts and stops watches so that the keys of registered entries are watched. It must be called with mu held.
func (s *Session) watchKeys() {
	var keys []string
	if s.ctx.Err() == nil {
		keys = s.core.registered(maxWatches)
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
	s.core.setWatched(time.Now(), watched)
}

// watch starts a watch of a key.
func (s *Session) watch(key string) *watch {
	w := &watch{}
	read := func(kv *mvccpb.KeyValue) (keyValue, bool, error) { return *keyValueOf(kv), true, nil }
	w.stop = s.group.Follow(listwatch.Spec[keyValue]{Range: listwatch.Range{From: key}, Decode: read}, func(u listwatch.Update[keyValue]) {
		s.locked(func(c *core, now time.Time) {
			if s.watches[key] != w {
				return
			}
			if w.heard = u.Err == nil; w.heard {
				c.onWatch(now, key, valueOf(u.Snapshot), u.Snapshot.Revision)
			}
		})
		s.poke()
	})
	return w
}

// valueOf returns the value of a snapshot's only key, nil if it is absent.
func valueOf(snapshot *listwatch.Snapshot[keyValue]) *keyValue {
	if len(snapshot.Items) == 0 {
		return nil
	}
	return &snapshot.Items[0].Value
}
