package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// do makes one call, and passes its outcome to the core. It does not wait for a revocation, which is made again until etcd answers.
func (s *Session) do(o reconcile.Op, timeout time.Duration) {
	if o, ok := o.(reconcile.RevokeOp); ok {
		s.wg.Go(func() { s.revoke(o, timeout) })
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	start := time.Now()
	if !reconcile.Removes(o) {
		s.locked(func(c *reconcile.Core, _ time.Time) {
			s.giveWay = func() { time.AfterFunc(time.Until(start.Add(c.Patience())), cancel) }
			s.hurry()
		})
	}
	defer s.locked(func(c *reconcile.Core, now time.Time) {
		s.giveWay = nil
		if !errors.Is(ctx.Err(), context.Canceled) {
			c.Called(now.Sub(start), ctx.Err() == nil)
		}
	})
	switch o := o.(type) {
	case reconcile.GrantOp:
		s.grant(ctx, o)
	case reconcile.AttachedOp:
		s.attached(ctx, o)
	case reconcile.ReadOp:
		s.read(ctx, o)
	case reconcile.WriteOp:
		s.write(ctx, o)
	}
}

// hurry makes the call under way end soon if it removes nothing and an entry was withdrawn. It must be called with mu held.
func (s *Session) hurry() {
	if s.core.Hurry() && s.giveWay != nil {
		s.giveWay()
		s.giveWay = nil
	}
}

// failure returns the error of a call that was made with ctx.
func (s *Session) failure(ctx context.Context, err error) error {
	if err != nil && s.ctx.Err() == nil && errors.Is(ctx.Err(), context.Canceled) {
		return reconcile.ErrGaveWay
	}
	return s.explained(err)
}

// grant requests a lease, and waits for it until ctx ends. The call continues for 30 s, so that a lease that etcd grants late can be
// revoked: only the answer has the lease's id.
func (s *Session) grant(ctx context.Context, o reconcile.GrantOp) {
	answered := make(chan struct{})
	over := false // guarded by mu
	s.wg.Go(func() {
		defer close(answered)
		call, cancel := context.WithTimeout(s.ctx, reconcile.MaxTimeout)
		defer cancel()
		resp, err := s.client.Lease.Grant(call, max(1, int64(o.TTL/time.Second)))
		if err == nil && (resp.ID == clientv3.NoLease || resp.TTL <= 0) {
			err = fmt.Errorf("etcd granted lease %x with a TTL of %d s", int64(resp.ID), resp.TTL)
		}
		err = s.explained(err)
		s.locked(func(c *reconcile.Core, now time.Time) {
			defer s.poke()
			switch {
			case err == nil && over:
				c.Hold(now, resp.ID, time.Duration(resp.TTL)*time.Second)
			case err == nil:
				c.OnGrant(now, resp.ID, time.Duration(resp.TTL)*time.Second)
			case !over:
				c.OnGrantFailed(now, err)
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
	s.locked(func(c *reconcile.Core, now time.Time) {
		if !over {
			c.OnGrantFailed(now, err)
		}
		over = true
	})
}

func (s *Session) revoke(o reconcile.RevokeOp, timeout time.Duration) {
	defer s.poke()
	ctx, cancel := context.WithTimeout(s.ctx, timeout)
	defer cancel()
	resp, err := s.client.Lease.Revoke(ctx, o.Lease)
	err = s.failure(ctx, err)
	s.locked(func(c *reconcile.Core, now time.Time) {
		if err != nil {
			c.OnRevokeFailed(now, o.Lease, err)
			return
		}
		c.OnRevoked(now, o.Lease, resp.Header.GetRevision())
	})
}

func (s *Session) attached(ctx context.Context, o reconcile.AttachedOp) {
	resp, err := s.client.Lease.TimeToLive(ctx, o.Lease, clientv3.WithAttachedKeys())
	err = s.failure(ctx, err)
	s.locked(func(c *reconcile.Core, now time.Time) {
		if err != nil {
			c.OnAttachedFailed(now, o.Lease, err)
			return
		}
		var keys []string
		for _, key := range resp.Keys {
			keys = append(keys, string(key))
		}
		c.OnAttachedKeys(now, o.Lease, keys)
	})
}

func (s *Session) write(ctx context.Context, o reconcile.WriteOp) {
	guards, ops, gets := partsOf(o.Steps)
	resp, err := s.client.KV.Txn(ctx).If(guards...).Then(ops...).Else(gets...).Commit()
	err = s.failure(ctx, err)
	s.locked(func(c *reconcile.Core, now time.Time) {
		if err != nil {
			c.OnWriteFailed(now, o.Steps, err)
			return
		}
		var kvs []*reconcile.KeyValue
		if !resp.Succeeded {
			kvs = valuesOf(resp)
		}
		c.OnWrite(now, o.Steps, resp.Succeeded, kvs, resp.Header.GetRevision())
	})
}

// partsOf returns the parts of a transaction: what it compares, does and reads.
func partsOf(steps []reconcile.Step) (guards []clientv3.Cmp, ops, gets []clientv3.Op) {
	for _, st := range steps {
		guard, do, get := st.Parts()
		guards, ops, gets = append(guards, guard), append(ops, do), append(gets, get)
	}
	return guards, ops, gets
}

// valuesOf returns the results of a transaction of Gets, one for each key.
func valuesOf(resp *clientv3.TxnResponse) []*reconcile.KeyValue {
	var kvs []*reconcile.KeyValue
	for _, answer := range resp.Responses {
		kvs = append(kvs, firstOf(answer.GetResponseRange()))
	}
	return kvs
}

// firstOf returns the result of a Get of one key, nil if the key is absent.
func firstOf(resp *pb.RangeResponse) *reconcile.KeyValue {
	if len(resp.GetKvs()) == 0 {
		return nil
	}
	return keyValueOf(resp.Kvs[0])
}

func keyValueOf(kv *mvccpb.KeyValue) *reconcile.KeyValue {
	return &reconcile.KeyValue{Value: string(kv.Value), Lease: clientv3.LeaseID(kv.Lease), Rev: kv.ModRevision}
}

// read reads keys. If compare is set, etcd compares revisions, and returns no values if all keys are as observed.
func (s *Session) read(ctx context.Context, o reconcile.ReadOp) {
	guards, _, gets := partsOf(o.Steps)
	txn := s.client.KV.Txn(ctx)
	if o.Compare {
		txn = txn.If(guards...).Else(gets...)
	} else {
		txn = txn.Then(gets...)
	}
	resp, err := txn.Commit()
	err = s.failure(ctx, err)
	s.locked(func(c *reconcile.Core, now time.Time) {
		if err != nil {
			c.OnReadFailed(now, o, err)
			return
		}
		c.OnRead(now, o.Steps, valuesOf(resp), resp.Header.GetRevision())
	})
}
