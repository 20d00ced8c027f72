package election

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// callTimeout bounds a call to etcd, which gives up on a write after 7 s (5 s
// and two election timeouts).
const callTimeout = 10 * time.Second

// calls makes the calls to etcd for successive candidates.
type calls Config

// stand grants a lease and puts a candidate on it. The put has its own
// transaction, so that no other candidate has its create revision. The
// transaction also reads the key: it is denied if the candidates may not be read.
// timeout bounds each call. If an attempt fails, its lease is revoked, whether or
// not the put was applied.
func (c calls) stand(ctx context.Context, timeout time.Duration) outcome {
	o := outcome{sent: time.Now()}
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	granted, err := c.Client.Lease.Grant(call, max(1, int64(c.TTL/time.Second)))
	if err == nil && (granted.ID == clientv3.NoLease || granted.TTL <= 0) {
		err = fmt.Errorf(
			"etcd granted lease %x with a TTL of %d s: want an id and a TTL above 0",
			int64(granted.ID), granted.TTL)
	}

	if err != nil {
		return c.failed(o, fmt.Errorf("grant a lease: %w", err))
	}

	o.lease = granted.ID
	o.life = time.Duration(granted.TTL) * time.Second

	// a renewal, so that the put may take as long as the grant
	sent := time.Now()
	if renewed, err := c.Renewer.Renew(ctx, o.lease, timeout); err == nil {
		o.sent = sent
		o.life = time.Duration(renewed.TTL) * time.Second
	}

	key := c.Prefix + rand.Text()
	call, cancel = context.WithTimeout(ctx, timeout)
	defer cancel()

	put := clientv3.OpPut(key, c.Instance, clientv3.WithLease(o.lease))
	placed, err := c.Client.KV.Txn(call).Then(put, clientv3.OpGet(key)).Commit()
	if err != nil {
		return c.failed(o, fmt.Errorf("put %q: %w", key, err))
	}

	o.own = First{
		Key:     key,
		Created: placed.Responses[1].GetResponseRange().Kvs[0].CreateRevision,
	}

	return o
}

// failed returns the outcome of an attempt to stand that has failed with err.
func (c calls) failed(o outcome, err error) outcome {
	o.err = err
	o.refused = etcderr.Refused(err)

	if c.Why != nil {
		o.err = etcderr.With(err, c.Why(err))
	}

	return o
}

// renew renews the lease of a candidate.
func (c calls) renew(ctx context.Context, lease clientv3.LeaseID) (o outcome) {
	o.sent = time.Now()
	renewed, err := c.Renewer.Renew(ctx, lease, callTimeout)
	o.err = err
	o.gone = errors.Is(err, rpctypes.ErrLeaseNotFound)

	if err == nil {
		o.life = time.Duration(renewed.TTL) * time.Second
	}

	return o
}

// deleted reports whether a candidate is not in etcd any more, or on another
// lease or none.
func (c calls) deleted(ctx context.Context, key string, lease clientv3.LeaseID) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	resp, err := c.Client.KV.Get(ctx, key)

	return err == nil &&
		(len(resp.Kvs) == 0 || clientv3.LeaseID(resp.Kvs[0].Lease) != lease)
}

// revoke revokes a lease, and reports whether the lease is gone. After that, no
// write on it can succeed.
func (c calls) revoke(ctx context.Context, lease clientv3.LeaseID) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	_, err := c.Client.Lease.Revoke(ctx, lease)

	return err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound)
}
