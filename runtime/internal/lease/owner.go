package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// own is the goroutine that talks to etcd, one call at a time, until the session ends.
func (s *Session) own() {
	defer close(s.done)
	defer s.wg.Wait()
	defer s.cancel()
	s.wg.Go(s.followConnection)
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		op, wait, finished := s.next()
		if finished || s.ctx.Err() != nil {
			s.end()
			return
		}
		if op != nil {
			s.do(op)
			continue
		}
		timer.Reset(wait)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-s.ctx.Done():
		}
	}
}

func (s *Session) next() (op, time.Duration, bool) {
	s.mu.Lock()
	op, wait := s.core.next(time.Now())
	finished := s.core.finished()
	if s.core.lease == 0 {
		s.stopKeepAlive()
	}
	s.watchKeys()
	s.mu.Unlock()
	s.report()
	return op, wait, finished
}

// end closes whatever is still there.
func (s *Session) end() {
	s.mu.Lock()
	s.stopKeepAlive()
	s.core.end(time.Now())
	s.mu.Unlock()
	s.report()
}

// end marks every entry closed, whatever is left of it in etcd.
func (c *core) end(now time.Time) {
	c.closing = true
	c.retire(now, nil)
	for _, e := range c.entries {
		from := e.state
		e.state, e.since = Closed, now
		c.changes = append(c.changes, change{e.key(), 0, from, Closed, nil})
		e.wake()
	}
	c.entries = nil
}

// leftover says what a closed session has left in etcd.
func (c *core) leftover(cause error) error {
	id := c.unrevoked
	if len(c.retired) > 0 {
		id = c.retired[len(c.retired)-1]
	}
	if id == 0 {
		return nil
	}
	if cause == nil {
		cause = errors.New("etcd denies it")
	}
	return fmt.Errorf("lease %x was not revoked, it and its keys expire by themselves within %v: %w", int64(id), c.life, cause)
}

// report logs and counts the changes of state since the last report.
func (s *Session) report() {
	s.mu.Lock()
	changes := s.core.changes
	s.core.changes = nil
	s.mu.Unlock()
	for _, c := range changes {
		if s.opts.Changed != nil {
			s.opts.Changed(c.key, c.from, c.to)
		}
		if c.from == Unborn {
			continue
		}
		level := slog.LevelInfo
		attrs := []slog.Attr{slog.String("key", c.key), slog.String("state", c.to.String()), slog.String("was", c.from.String())}
		if c.lease != 0 {
			attrs = append(attrs, slog.String("lease", fmt.Sprintf("%x", int64(c.lease))))
		}
		if c.err != nil {
			attrs = append(attrs, slog.Any("error", c.err))
		}
		if c.to == Lost || c.to == Conflict {
			level = slog.LevelWarn
		}
		s.opts.Logger.LogAttrs(context.Background(), level, "etcd registration "+c.to.String(), attrs...)
	}
}

// do makes one call and takes in what came of it.
func (s *Session) do(o op) {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	switch o := o.(type) {
	case grantOp:
		s.grant(ctx, o)
	case revokeOp:
		s.revoke(ctx, o)
	case checkOp:
		s.check(ctx, o)
	case batchOp:
		s.commit(ctx, o)
	}
}

// locked runs f on the core with the time it is now.
func (s *Session) locked(f func(c *core, now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.core, time.Now())
}

func (s *Session) grant(ctx context.Context, o grantOp) {
	resp, err := s.client.Lease.Grant(ctx, max(1, int64(o.ttl/time.Second)))
	if err == nil && (resp.ID == clientv3.NoLease || resp.TTL <= 0) {
		err = fmt.Errorf("etcd granted lease %x with a TTL of %d s", int64(resp.ID), resp.TTL)
	}
	if err != nil {
		s.locked(func(c *core, now time.Time) {
			if err := fmt.Errorf("grant a lease: %w", err); isPermanent(err) {
				c.refusedGrant(now, err)
			} else {
				c.failed(now, err)
			}
		})
		return
	}
	s.locked(func(c *core, now time.Time) { c.grantedLease(now, resp.ID, time.Duration(resp.TTL)*time.Second) })
	s.keepAlive(resp.ID)
}

// keepAlive renews a lease in the background until the session drops it.
func (s *Session) keepAlive(id clientv3.LeaseID) {
	ctx, cancel := context.WithCancel(s.ctx)
	s.mu.Lock()
	s.stopKA = cancel
	s.mu.Unlock()
	answers, err := s.client.Lease.KeepAlive(ctx, id)
	if err != nil {
		s.keepAliveEnded(id, err)
		return
	}
	s.wg.Go(func() {
		for range answers {
		}
		if ctx.Err() == nil {
			s.keepAliveEnded(id, nil)
		}
	})
}

// keepAliveEnded moves on to another lease. This one need not be dead: etcd may have been away, or
// the client may have given up for reasons of its own.
func (s *Session) keepAliveEnded(id clientv3.LeaseID, err error) {
	if err == nil {
		err = errors.New("etcd has not renewed it in time")
	}
	s.locked(func(c *core, now time.Time) {
		if c.lease == id {
			c.retire(now, fmt.Errorf("lease %x: %w", int64(id), err))
		}
	})
	s.poke()
}

func (s *Session) stopKeepAlive() {
	if s.stopKA != nil {
		s.stopKA()
		s.stopKA = nil
	}
}

func (s *Session) revoke(ctx context.Context, o revokeOp) {
	_, err := s.client.Lease.Revoke(ctx, o.lease)
	s.locked(func(c *core, now time.Time) {
		switch {
		case err == nil || isNotFound(err):
			c.succeeded()
		case isPermanent(err):
			// It expires, for it is not renewed any more.
			c.unrevoked = o.lease
		default:
			c.failed(now, fmt.Errorf("revoke lease %x: %w", int64(o.lease), err))
			return
		}
		c.lost(now, o.lease, nil)
	})
}

func (s *Session) check(ctx context.Context, o checkOp) {
	var opts []clientv3.LeaseOption
	if o.keys {
		opts = append(opts, clientv3.WithAttachedKeys())
	}
	resp, err := s.client.Lease.TimeToLive(ctx, o.lease, opts...)
	s.locked(func(c *core, now time.Time) {
		switch {
		case err == nil && resp.TTL > 0:
			c.checked(now, o.lease, resp.Keys, o.keys)
		case err == nil || isNotFound(err):
			c.succeeded()
			c.lost(now, o.lease, fmt.Errorf("lease %x expired or was revoked", int64(o.lease)))
		case o.keys && isDenied(err):
			c.keysDeny, c.checkAt = true, now
		default:
			c.checkAt = now
			c.failed(now, fmt.Errorf("look at lease %x: %w", int64(o.lease), err))
		}
	})
}

func (s *Session) commit(ctx context.Context, o batchOp) {
	ops := make([]clientv3.Op, len(o.steps))
	for i := range o.steps {
		ops[i] = o.steps[i].op()
	}
	resp, err := s.client.KV.Txn(ctx).Then(ops...).Commit()
	s.locked(func(c *core, now time.Time) {
		switch {
		case err == nil:
			c.batched(now, o.steps, resp)
		case isNotFound(err):
			c.succeeded()
			c.lost(now, c.lease, fmt.Errorf("lease %x expired or was revoked", int64(c.lease)))
		case isPermanent(err):
			c.refusedBatch(now, o.steps, fmt.Errorf("key %q: %w", o.steps[0].s.key, err))
		default:
			c.failed(now, fmt.Errorf("put %q: %w", o.steps[0].s.key, err))
		}
	})
}

func isNotFound(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }

func isDenied(err error) bool { return status.Code(unwrap(err)) == codes.PermissionDenied }

// isPermanent tells whether to ask again is of no use, until someone changes something.
func isPermanent(err error) bool {
	code := status.Code(unwrap(err))
	return code == codes.PermissionDenied || code == codes.InvalidArgument
}

// unwrap turns an error of the etcd client into one that has a gRPC status.
func unwrap(err error) error {
	var e rpctypes.EtcdError
	if errors.As(err, &e) {
		return status.Error(e.Code(), e.Error())
	}
	return err
}

// followConnection looks after the keys at once when the connection to etcd comes back: what was
// restored from a backup has neither our lease nor a word about it.
func (s *Session) followConnection() {
	conn := s.client.ActiveConnection()
	if conn == nil {
		return
	}
	for state := conn.GetState(); conn.WaitForStateChange(s.ctx, state); {
		if state = conn.GetState(); state == connectivity.Ready {
			s.nudge()
		}
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
	ready bool // hears now
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
		if !slices.Contains(keys, key) {
			w.stop()
			delete(s.watches, key)
		}
	}
	watched := len(keys) > 0
	for _, key := range keys {
		w := s.watches[key]
		if w == nil {
			ctx, stop := context.WithCancel(s.ctx)
			w = &watch{stop: stop}
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
			if event.Type == clientv3.EventTypeDelete || !s.isOwn(clientv3.LeaseID(event.Kv.Lease)) {
				s.nudge()
			}
		}
	}
	return ctx.Err()
}

func (s *Session) isOwn(id clientv3.LeaseID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.isOwn(id)
}
