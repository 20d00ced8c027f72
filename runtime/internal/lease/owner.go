package lease

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/etcderr"
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

func isDenied(err error) bool { return etcderr.Code(err) == codes.PermissionDenied }

// isPermanent tells whether to ask again is of no use, until someone changes something.
func isPermanent(err error) bool {
	code := etcderr.Code(err)
	return code == codes.PermissionDenied || code == codes.InvalidArgument
}
