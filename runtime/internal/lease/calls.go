package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// do makes one call, and passes its outcome to the core. It does not wait for a revocation, which is made again until etcd answers.
func (s *Session) do(o op, timeout time.Duration) {
	if o, ok := o.(revokeOp); ok {
		s.wg.Go(func() { s.revoke(o, timeout) })
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	start := time.Now()
	if !removes(o) {
		s.locked(func(c *core, _ time.Time) {
			s.giveWay = func() { time.AfterFunc(time.Until(start.Add(c.patience())), cancel) }
			s.hurry()
		})
	}
	defer s.locked(func(c *core, now time.Time) {
		s.giveWay = nil
		if !errors.Is(ctx.Err(), context.Canceled) {
			c.called(now.Sub(start), ctx.Err() == nil)
		}
	})
	switch o := o.(type) {
	case grantOp:
		s.grant(ctx, o)
	case attachOp:
		s.attached(ctx, o)
	case readOp:
		s.read(ctx, o)
	case writeOp:
		s.write(ctx, o)
	}
}

// hurry makes the call under way end soon if it removes nothing and an entry was withdrawn. It must be called with mu held.
func (s *Session) hurry() {
	if s.core.hurry && s.giveWay != nil {
		s.giveWay()
		s.giveWay = nil
	}
}

// failure returns the error of a call that was made with ctx.
func (s *Session) failure(ctx context.Context, err error) error {
	if err != nil && s.ctx.Err() == nil && errors.Is(ctx.Err(), context.Canceled) {
		return errGaveWay
	}
	return s.explained(err)
}

// grant requests a lease, and waits for it until ctx ends. The call continues until maxTimeout, so that a lease that etcd grants
// late can be revoked: only the answer has the lease's id.
func (s *Session) grant(ctx context.Context, o grantOp) {
	answered := make(chan struct{})
	over := false // guarded by mu
	s.wg.Go(func() {
		defer close(answered)
		call, cancel := context.WithTimeout(s.ctx, maxTimeout)
		defer cancel()
		resp, err := s.client.Lease.Grant(call, max(1, int64(o.ttl/time.Second)))
		if err == nil && (resp.ID == clientv3.NoLease || resp.TTL <= 0) {
			err = fmt.Errorf("etcd granted lease %x with a TTL of %d s", int64(resp.ID), resp.TTL)
		}
		err = s.explained(err)
		s.locked(func(c *core, now time.Time) {
			defer s.poke()
			switch {
			case err == nil && over:
				c.hold(now, resp.ID, time.Duration(resp.TTL)*time.Second)
			case err == nil:
				c.onGrant(now, resp.ID, time.Duration(resp.TTL)*time.Second)
			case !over:
				c.onGrantFailed(now, err)
			}
			over = true
		})
	})
	select {
	case <-answered:
		return
	case <-ctx.Done():
	}
	err := s.failure(ctx, ctx.Err())
	s.locked(func(c *core, now time.Time) {
		if !over {
			c.onGrantFailed(now, err)
		}
		over = true
	})
}

func (s *Session) revoke(o revokeOp, timeout time.Duration) {
	defer s.poke()
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	resp, err := s.client.Lease.Revoke(ctx, o.lease)
	err = s.failure(ctx, err)
	s.locked(func(c *core, now time.Time) {
		if err != nil {
			c.onRevokeFailed(now, o.lease, err)
			return
		}
		c.atRevision(now, resp.Header.GetRevision())
		c.onLeaseLost(now, o.lease, nil)
	})
}

func (s *Session) attached(ctx context.Context, o attachOp) {
	resp, err := s.client.Lease.TimeToLive(ctx, o.lease, clientv3.WithAttachedKeys())
	err = s.failure(ctx, err)
	s.locked(func(c *core, now time.Time) {
		if err != nil {
			c.onAttachedFailed(now, o.lease, err)
			return
		}
		var keys []string
		for _, key := range resp.Keys {
			keys = append(keys, string(key))
		}
		c.onAttachedKeys(now, o.lease, keys)
	})
}

func (s *Session) write(ctx context.Context, o writeOp) {
	var guards []clientv3.Cmp
	var ops, gets []clientv3.Op
	for i := range o.steps {
		st := &o.steps[i]
		guards, ops = append(guards, st.guard()), append(ops, st.op())
		gets = append(gets, clientv3.OpGet(st.r.key))
	}
	resp, err := s.client.KV.Txn(ctx).If(guards...).Then(ops...).Else(gets...).Commit()
	err = s.failure(ctx, err)
	s.locked(func(c *core, now time.Time) {
		if err != nil {
			c.onWriteFailed(now, o.steps, err)
			return
		}
		var kvs []*keyValue
		if !resp.Succeeded {
			kvs = valuesOf(resp)
		}
		c.onWrite(now, o.steps, resp.Succeeded, kvs, resp.Header.GetRevision())
	})
}

// valuesOf returns the results of a transaction of Gets, one for each key.
func valuesOf(resp *clientv3.TxnResponse) []*keyValue {
	var kvs []*keyValue
	for _, answer := range resp.Responses {
		kvs = append(kvs, firstOf(answer.GetResponseRange()))
	}
	return kvs
}

// firstOf returns the result of a Get of one key, nil if the key is absent.
func firstOf(resp *pb.RangeResponse) *keyValue {
	if len(resp.GetKvs()) == 0 {
		return nil
	}
	return keyValueOf(resp.Kvs[0])
}

func keyValueOf(kv *mvccpb.KeyValue) *keyValue {
	return &keyValue{string(kv.Value), clientv3.LeaseID(kv.Lease), kv.ModRevision}
}

// read reads keys. If compare is set, etcd compares revisions, and returns no values if all keys are as observed.
func (s *Session) read(ctx context.Context, o readOp) {
	var guards []clientv3.Cmp
	var gets []clientv3.Op
	for i := range o.steps {
		guards, gets = append(guards, o.steps[i].guard()), append(gets, clientv3.OpGet(o.steps[i].r.key))
	}
	txn := s.client.KV.Txn(ctx)
	if o.compare {
		txn = txn.If(guards...).Else(gets...)
	} else {
		txn = txn.Then(gets...)
	}
	resp, err := txn.Commit()
	err = s.failure(ctx, err)
	s.locked(func(c *core, now time.Time) {
		if err != nil {
			c.onReadFailed(now, o, err)
			return
		}
		c.onRead(now, o.steps, valuesOf(resp), resp.Header.GetRevision())
	})
}
