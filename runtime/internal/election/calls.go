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

// callTimeout bounds a call to etcd, which gives up on a write after 7 s (5 s and two election timeouts): whoever gives up before
// does not know whether it was applied.
const callTimeout = 10 * time.Second

// calls makes the calls to etcd for one candidate after the other.
type calls struct {
	client   *clientv3.Client
	prefix   string // of the candidates' keys
	instance string // a candidate's value
	ttl      time.Duration
	why      func(error) error // returns what the error of a call does not say itself; may be nil
}

// stand grants a lease, and puts a candidate on it alone in a transaction, so that no other has its create revision. Where the
// candidates may not be read, the transaction is denied, for it reads the key.
func (c calls) stand(ctx context.Context) (o outcome) {
	o.sent = time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted, err := c.client.Lease.Grant(call, max(1, int64(c.ttl/time.Second)))
	if err == nil && (granted.ID == clientv3.NoLease || granted.TTL <= 0) {
		err = fmt.Errorf("etcd granted lease %x with a TTL of %d s", int64(granted.ID), granted.TTL)
	}
	if err != nil {
		return c.failed(o, fmt.Errorf("grant a lease: %w", err))
	}
	o.lease, o.life = granted.ID, time.Duration(granted.TTL)*time.Second
	key := c.prefix + rand.Text()
	call, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	put, err := c.client.KV.Txn(call).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, c.instance, clientv3.WithLease(o.lease)), clientv3.OpGet(key)).Commit()
	if err == nil && !put.Succeeded {
		err = errors.New("the key is there already")
	}
	if err != nil {
		return c.failed(o, fmt.Errorf("put %q: %w", key, err))
	}
	o.own = First{Key: key, Created: put.Responses[1].GetResponseRange().Kvs[0].CreateRevision}
	return o
}

func (c calls) failed(o outcome, err error) outcome {
	if o.err, o.refused = err, etcderr.Refused(err); c.why != nil {
		o.err = etcderr.With(err, c.why(err))
	}
	return o
}

// renew renews a lease if it has a key. While etcd does not answer, the client's KeepAliveOnce tries without a pause, so a question
// goes before it.
func (c calls) renew(ctx context.Context, lease clientv3.LeaseID) (o outcome) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	held, err := c.client.Lease.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err == nil && (held.TTL <= 0 || len(held.Keys) == 0) {
		return outcome{gone: true}
	}
	if err == nil || etcderr.Refused(err) { // of one that may not read the key
		o.sent = time.Now()
		var answer *clientv3.LeaseKeepAliveResponse
		if answer, err = c.client.Lease.KeepAliveOnce(ctx, lease); err == nil {
			o.life = time.Duration(answer.TTL) * time.Second
		}
	}
	o.err, o.gone = err, isGone(err)
	return o
}

// revoke revokes a lease, and reports whether etcd does not have it any more. No write on it can arrive after that.
func (c calls) revoke(ctx context.Context, lease clientv3.LeaseID) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.client.Lease.Revoke(ctx, lease)
	return err == nil || isGone(err)
}

func isGone(err error) bool { return errors.Is(err, rpctypes.ErrLeaseNotFound) }
