package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/login"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease/reconcile"
)

// do makes a call, and passes its outcome to the core. It does not wait for a
// revocation, which is retried until etcd answers.
func (s *Session) do(o reconcile.Op, timeout time.Duration) {
	if _, revokes := o.(reconcile.RevokeOp); revokes {
		s.wg.Go(func() {
			s.call(o, timeout)
			s.poke()
		})

		return
	}

	s.call(o, timeout)
}

// call makes the request o, and returns when it has ended.
func (s *Session) call(o reconcile.Op, timeout time.Duration) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()

	var logins *login.Login // nil for a removal, which waits for no login

	removes := reconcile.Removes(o)
	if !removes {
		s.letGiveWay(cancel)
		logins = s.opts.Login
	}

	timeout, done := logins.Turn(ctx, timeout)
	ctx, end := context.WithTimeout(ctx, timeout)
	defer end()

	sent := time.Now()

	a := s.send(ctx, o)
	done(a.Err)
	a.Took = time.Since(sent)

	if a.Err != nil && s.ctx.Err() == nil && errors.Is(ctx.Err(), context.Canceled) {
		a.Err = reconcile.ErrGaveWay
	}

	a.Err = s.explained(a.Err)
	s.locked(func(c *reconcile.Core, now time.Time) {
		if !removes {
			s.giveWay = nil
		}

		c.OnAnswer(now, o, a)
	})
}

// letGiveWay makes hurry end the call that begins now, by cancel, once the call
// has taken longer than the core's Patience.
func (s *Session) letGiveWay(cancel func()) {
	s.locked(func(c *reconcile.Core, began time.Time) {
		s.giveWay = func() {
			time.AfterFunc(time.Until(began.Add(c.Patience())), cancel)
		}

		s.hurry()
	})
}

// hurry makes the call under way end soon if an entry was withdrawn and the
// call removes nothing. It must be called with mu held.
func (s *Session) hurry() {
	if s.core.MustGiveWay() && s.giveWay != nil {
		s.giveWay()
		s.giveWay = nil
	}
}

// send sends a call to etcd, and returns its outcome.
func (s *Session) send(ctx context.Context, o reconcile.Op) (a reconcile.Answer) {
	switch o := o.(type) {
	case reconcile.GrantOp:
		return s.grant(ctx)
	case reconcile.RevokeOp:
		_, a.Err = s.client.Lease.Revoke(ctx, o.Lease)

	case reconcile.AttachedOp:
		resp, err := s.client.Lease.TimeToLive(ctx, o.Lease, clientv3.WithAttachedKeys())
		a.Err = err

		if err == nil {
			for _, key := range resp.Keys {
				a.Keys = append(a.Keys, string(key))
			}
		}

	default:
		guards, then, otherwise := reconcile.Transaction(o)
		resp, err := s.client.KV.Txn(ctx).
			If(guards...).
			Then(then...).
			Else(otherwise...).
			Commit()

		a.Err = err

		if err == nil {
			a.Made = resp.Succeeded
			a.KVs = valuesOf(resp)
			a.Revision = resp.Header.GetRevision()
		}
	}

	return a
}

// grant requests a lease, and returns the first lease that etcd grants before
// ctx ends. That may be the answer to an earlier request.
func (s *Session) grant(ctx context.Context) reconcile.Answer {
	failed := make(chan error, 1)
	if ctx.Err() == nil {
		s.wg.Go(func() { s.request(failed) })
	}

	select {
	case a := <-s.granted:
		return a
	case err := <-failed:
		return reconcile.Answer{Err: err}
	case <-ctx.Done():
		return reconcile.Answer{Err: ctx.Err()}
	}
}

// request requests a lease. It passes the lease to grant or, if grant no longer
// waits, to run. It waits longer than grant does: a slow etcd may still grant
// the lease, and only the answer has the id by which the lease can be revoked.
func (s *Session) request(failed chan<- error) {
	ctx, cancel := context.WithTimeout(s.ctx, reconcile.MaxTimeout)
	defer cancel()

	resp, err := s.client.Lease.Grant(ctx, max(1, int64(s.opts.TTL/time.Second)))
	if err == nil && (resp.ID == clientv3.NoLease || resp.TTL <= 0) {
		err = fmt.Errorf(
			"etcd granted lease %x with a TTL of %d s: want an id and a TTL above 0",
			resp.ID, resp.TTL)
	}

	if err != nil {
		failed <- err
		return
	}

	ttl := time.Duration(resp.TTL) * time.Second
	select {
	case s.granted <- reconcile.Answer{Lease: resp.ID, TTL: ttl}:
	case <-s.ctx.Done():
	}
}

// valuesOf returns the values that a transaction read, nil for a key that is
// absent.
func valuesOf(resp *clientv3.TxnResponse) (kvs []*reconcile.KeyValue) {
	for _, answer := range resp.Responses {
		read := answer.GetResponseRange()
		switch {
		case read == nil: // the answer to a write
		case len(read.Kvs) == 0:
			kvs = append(kvs, nil)
		default:
			kvs = append(kvs, keyValueOf(read.Kvs[0]))
		}
	}

	return kvs
}

func keyValueOf(kv *mvccpb.KeyValue) *reconcile.KeyValue {
	return &reconcile.KeyValue{
		Value: string(kv.Value),
		Lease: clientv3.LeaseID(kv.Lease),
		Rev:   kv.ModRevision,
	}
}

// renewLeases begins the renewals that are due, and sets the timer for the next
// ones. Renewals wait neither for other calls nor for each other. It must be
// called with mu held.
func (s *Session) renewLeases() {
	due, wait := s.core.Renewals(time.Now())
	for id, life := range due {
		s.wg.Go(func() { s.renew(id, life) })
	}

	s.renewal.Reset(wait)
}

func (s *Session) renew(id clientv3.LeaseID, life time.Duration) {
	answer, err := s.opts.Renewer.Renew(s.ctx, id, life)

	s.locked(func(c *reconcile.Core, now time.Time) {
		if err != nil {
			c.OnRenewalFailed(now, id, err)
			return
		}

		c.OnRenewal(now, id, time.Duration(answer.TTL)*time.Second, answer.GetRevision())
	})

	s.poke()
}
