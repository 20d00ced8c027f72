package lease

import (
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"
)

// followConnection looks after the keys at once, and watches them anew, when the connection to etcd
// comes back: what was restored from a backup has neither our lease nor a word about it.
func (s *Session) followConnection() {
	conn := s.client.ActiveConnection()
	if conn == nil {
		return
	}
	for state := conn.GetState(); conn.WaitForStateChange(s.ctx, state); {
		if state = conn.GetState(); state == connectivity.Ready {
			s.unwatch()
			s.nudge()
		}
	}
}

// unwatch has every watch opened anew. The etcd client resumes one at the revision that it was at,
// which an etcd that was restored may have yet to reach: until then such a watch hears nothing.
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

// maxWatches is how many keys of a session are watched. Beyond, none is: the checks must be
// frequent then anyhow, and a process with a hundred services is not to have a hundred watches.
const maxWatches = 4

// watch follows one key, in order to hear at once of what others do to it.
type watch struct {
	stop  context.CancelFunc
	lease clientv3.LeaseID // that it was opened under: with another, etcd may be another, see unwatch
	ready bool             // hears now
}

// watchKeys starts and stops watches so that they fit the entries. It runs under the lock.
func (s *Session) watchKeys() {
	var keys []string
	for _, e := range s.core.entries {
		for _, slot := range e.slots {
			if e.taken && e.want == present {
				keys = append(keys, slot.key)
			}
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
	if s.core.watched && !watched {
		s.core.checkAt = time.Now()
	}
	s.core.watched = watched
}

// watch listens until ctx ends or etcd denies it. What happens to the key while it does not listen
// is for the checks to find out.
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
		timer.Reset(jitter(checkUnwatched))
	}
}

func (s *Session) listen(ctx context.Context, w *watch, key string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := s.client.Watcher.Watch(ctx, key)
	s.locked(func(*core, time.Time) { w.ready = true })
	s.nudge()
	for answer := range answers {
		if err := answer.Err(); err != nil {
			return err
		}
		for _, event := range answer.Events {
			s.locked(func(c *core, now time.Time) {
				c.heard(now, key, event.Type == clientv3.EventTypeDelete, clientv3.LeaseID(event.Kv.Lease))
			})
		}
		s.poke()
	}
	return ctx.Err()
}
