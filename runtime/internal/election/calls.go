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

// callTimeout bounds a call to etcd, which gives up on a write after 7 s (5 s and two election timeouts): a client that gives
// up earlier does not know whether the write was applied.
const callTimeout = 10 * time.Second

// calls makes the calls to etcd for successive candidates.
type calls struct {
	client   *clientv3.Client
	prefix   string // the prefix of the candidates' keys
	instance string // the value of a candidate's key
	ttl      time.Duration
	why      func(error) error // explains the error of a call; may be nil
}

// stand grants a lease, which the etcd client renews until renewing ends, and puts a candidate on it. The put has its own transaction,
// so that no other candidate has its create revision. The transaction also reads the key, so that it is denied if the candidates
// may not be read. The caller must receive the keepalives unless they are nil.
func (c calls) stand(ctx, renewing context.Context) (o outcome, keepalives <-chan *clientv3.LeaseKeepAliveResponse) {
	o.sent = time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted, err := c.client.Lease.Grant(call, max(1, int64(c.ttl/time.Second)))
	if err == nil && (granted.ID == clientv3.NoLease || granted.TTL <= 0) {
		err = fmt.Errorf("etcd granted lease %x with a TTL of %d s", int64(granted.ID), granted.TTL)
	}
	if err != nil {
		return c.failed(o, fmt.Errorf("grant a lease: %w", err)), nil
	}
	o.lease, o.life = granted.ID, time.Duration(granted.TTL)*time.Second
	o.left = o.life
	if keepalives, err = c.client.Lease.KeepAlive(renewing, o.lease); err != nil {
		return c.failed(o, fmt.Errorf("renew lease %x: %w", int64(o.lease), err)), nil
	}
	if now := c.ask(ctx, o.lease, false); now.left > 0 { // so that the put may take as long as the grant
		o.sent, o.left = now.sent, now.left
	}
	key := c.prefix + rand.Text()
	call, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	put, err := c.client.KV.Txn(call).Then(clientv3.OpPut(key, c.instance, clientv3.WithLease(o.lease)), clientv3.OpGet(key)).Commit()
	if err != nil {
		return c.failed(o, fmt.Errorf("put %q: %w", key, err)), keepalives
	}
	o.own = First{Key: key, Created: put.Responses[1].GetResponseRange().Kvs[0].CreateRevision}
	return o, keepalives
}

func (c calls) failed(o outcome, err error) outcome {
	if o.err, o.refused = err, etcderr.Refused(err); c.why != nil {
		o.err = etcderr.With(err, c.why(err))
	}
	return o
}

// ask reads the remaining time of a lease, and renews the lease if at most half of its TTL is left, which shows that keepalives come late.
// If hasKey is set, a lease without a key counts as gone.
func (c calls) ask(ctx context.Context, lease clientv3.LeaseID, hasKey bool) (o outcome) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	o.sent = time.Now()
	held, err := c.client.Lease.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	switch {
	case err == nil && (held.TTL < 0 || hasKey && len(held.Keys) == 0):
		o.gone = true
	case err == nil && held.TTL > held.GrantedTTL/2:
		o.life, o.left = time.Duration(held.GrantedTTL)*time.Second, time.Duration(held.TTL)*time.Second
	case err == nil || etcderr.Refused(err): // a refusal: the user may not read the key
		return c.renew(ctx, lease, time.Since(o.sent))
	default:
		o.err = err
	}
	return o
}

// renew renews a lease on its own stream. The etcd client retries without a pause, so the renewal gets little more time than
// the last call took.
func (c calls) renew(ctx context.Context, lease clientv3.LeaseID, took time.Duration) outcome {
	ctx, cancel := context.WithTimeout(ctx, 4*took+100*time.Millisecond)
	defer cancel()
	o := outcome{sent: time.Now()}
	answer, err := c.client.Lease.KeepAliveOnce(ctx, lease)
	if o.err, o.gone = err, errors.Is(err, rpctypes.ErrLeaseNotFound); err == nil {
		o.life = time.Duration(answer.TTL) * time.Second
		o.left = o.life
	}
	return o
}

// revoke revokes a lease, and reports whether the lease is gone. After that, no write on it can succeed.
func (c calls) revoke(ctx context.Context, lease clientv3.LeaseID) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.client.Lease.Revoke(ctx, lease)
	return err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound)
}
