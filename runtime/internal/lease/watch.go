package lease

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// reconnected checks the keys at once and watches them anew. The connection to etcd is back, and may lead to
// one that was restored from a backup.
func (s *Session) reconnected() {
	s.unwatch()
	s.locked(func(c *core, now time.Time) { c.reconnected(now) })
	s.poke()
}

// unwatch has every watch opened anew. The etcd client would resume it at a revision that a restored etcd has
// yet to reach, and it would hear nothing until then.
func (s *Session) unwatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, w := range s.watches {
		w.stop()
		delete(s.watches, key)
	}
}

func (s *Session) nudge() {
	s.locked(func(c *core, now time.Time) { c.nudge(now) })
	s.poke()
}

// maxWatches is the greatest number of keys that a session watches. With more it watches none, and checks
// them often instead, so that a process with a hundred services does not have a hundred watches.
const maxWatches = 4

// watch watches one key, to hear at once when others change it.
type watch struct {
	stop  context.CancelFunc
	lease clientv3.LeaseID // the current one when it was opened: under another lease, etcd may be another, see unwatch
	ready bool             // it is open
}

// watchKeys starts and stops watches so that they fit the entries. It must be called with mu held.
func (s *Session) watchKeys() {
	var keys []string
	for e, slot := range s.core.slots() {
		if e.wasRegistered && e.want == present && !slot.retired {
			keys = append(keys, slot.key)
		}
		if len(keys) > maxWatches {
			break
		}
	}
	if len(keys) > maxWatches || s.core.closing || s.ctx.Err() != nil {
		keys = nil
	}
	for key, w := range s.watches {
		if !slices.Contains(keys, key) || s.core.lease != 0 && w.lease != s.core.lease {
			w.stop()
			delete(s.watches, key)
		}
	}
	watched := len(keys) > 0
	for _, key := range keys {
		w := s.watches[key]
		if w == nil {
			ctx, stop := context.WithCancel(s.ctx)
			w = &watch{stop: stop, lease: s.core.lease}
			s.watches[key] = w
			s.wg.Go(func() { s.watch(ctx, w, key) })
		}
		watched = watched && w.ready
	}
	s.core.setWatched(time.Now(), watched)
}

// watch listens until ctx ends or etcd denies it. While it does not listen, the checks find out what happens
// to the key.
func (s *Session) watch(ctx context.Context, w *watch, key string) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		err := s.listen(ctx, w, key)
		s.locked(func(*core, time.Time) { w.ready = false })
		s.nudge()
		if isDenied(err) {
			<-ctx.Done()
			return
		}
		timer.Reset(shorten(checkUnwatched))
	}
}

// streamKey is the metadata key of a watch's stream: the etcd client opens one gRPC stream for each distinct outgoing
// metadata. Each key has a stream of its own: if etcd denies one watch, say for an expired token, while another one of the stream
// is denied, its client can be left with a stream that never ends. Its Close then never returns.
//
// The etcd client keeps a stream whose watch is closed while it is being opened or resumed, as each reconnect has one, until
// the next watch on it is closed. So a key's next watch is on the same stream.
const streamKey = "etcd-registration-stream"

func (s *Session) listen(ctx context.Context, w *watch, key string) error {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, streamKey, fmt.Sprintf("%x", key)))
	defer cancel()
	answers := s.client.Watcher.Watch(ctx, key)
	s.locked(func(*core, time.Time) { w.ready = true })
	s.nudge()
	for answer := range answers {
		if err := answer.Err(); err != nil {
			return err
		}
		for _, event := range answer.Events {
			var kv *keyValue
			if event.Type == clientv3.EventTypePut {
				kv = &keyValue{string(event.Kv.Value), clientv3.LeaseID(event.Kv.Lease), event.Kv.ModRevision, event.Kv.CreateRevision}
			}
			s.locked(func(c *core, now time.Time) {
				c.onEvent(now, key, kv)
				s.renewSuspects()
			})
		}
		s.poke()
	}
	return ctx.Err()
}
