package election

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	leasing "github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// callTimeout bounds a call to etcd, which gives up on a write after 7 s (5 s and two election timeouts): a client that gives
// up earlier does not know whether the write was applied.
const callTimeout = 10 * time.Second

// calls makes the calls to etcd for successive candidates.
type calls Config

// maxIdle bounds the streams that wait for the next renewal: a connection may allow few, and the client's other calls need some.
const maxIdle = 16

// KeepAlives are the streams of lease renewals that the elections of a registry share.
type KeepAlives struct {
	life context.Context // ends the streams
	idle chan *stream    // of renewals that etcd has answered
}

// NewKeepAlives returns the streams of elections. They end with life.
func NewKeepAlives(life context.Context) *KeepAlives {
	return &KeepAlives{life, make(chan *stream, maxIdle)}
}

// stream is a stream of lease renewals.
type stream struct {
	grpc pb.Lease_LeaseKeepAliveClient // nil before the first renewal
	ctx  context.Context
	end  context.CancelFunc
}

// renew renews a lease, and returns the TTL, which is 0 if the lease is gone.
func (s *stream) renew(client *clientv3.Client, lease clientv3.LeaseID) (ttl time.Duration, err error) {
	if s.grpc == nil {
		if s.grpc, err = clientv3.RetryLeaseClient(client).LeaseKeepAlive(s.ctx); err != nil {
			return 0, err
		}
	}
	if err = s.grpc.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)}); err != nil {
		return 0, err
	}
	answer, err := s.grpc.Recv()
	return time.Duration(answer.GetTTL()) * time.Second, err
}

// stand grants a lease and puts a candidate on it. The put has its own transaction, so that no other candidate has its create
// revision. The transaction also reads the key, so that it is denied if the candidates may not be read.
func (c calls) stand(ctx context.Context) outcome {
	o := outcome{sent: time.Now()}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted, err := c.Client.Lease.Grant(call, max(1, int64(c.TTL/time.Second)))
	if err == nil && (granted.ID == clientv3.NoLease || granted.TTL <= 0) {
		err = fmt.Errorf("etcd granted lease %x with a TTL of %d s", int64(granted.ID), granted.TTL)
	}
	if err != nil {
		return c.failed(o, fmt.Errorf("grant a lease: %w", err))
	}
	o.lease, o.life = granted.ID, time.Duration(granted.TTL)*time.Second
	sent := time.Now()
	if life, err := c.keepAlive(ctx, o.lease); err == nil && life > 0 { // so that the put may take as long as the grant
		o.sent, o.life = sent, life
	}
	key := c.Prefix + rand.Text()
	call, cancel = context.WithTimeout(ctx, callTimeout)
	defer cancel()
	put, err := c.Client.KV.Txn(call).Then(clientv3.OpPut(key, c.Instance, clientv3.WithLease(o.lease)), clientv3.OpGet(key)).Commit()
	if err != nil {
		return c.failed(o, fmt.Errorf("put %q: %w", key, err))
	}
	o.own = First{Key: key, Created: put.Responses[1].GetResponseRange().Kvs[0].CreateRevision}
	return o
}

func (c calls) failed(o outcome, err error) outcome {
	if o.err, o.refused = err, etcderr.Refused(err); c.Why != nil {
		o.err = etcderr.With(err, c.Why(err))
	}
	return o
}

// renew renews the lease of a candidate, and reads its key.
func (c calls) renew(ctx context.Context, lease clientv3.LeaseID, key string) (o outcome) {
	o.sent = time.Now()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	type reading struct {
		*clientv3.GetResponse
		err error
	}
	read := make(chan reading, 1)
	go func() {
		resp, err := c.Client.KV.Get(call, key, clientv3.WithCountOnly())
		read <- reading{resp, err}
	}()
	o.life, o.err = c.keepAlive(ctx, lease)
	switch r := <-read; {
	case o.err == nil && o.life <= 0, r.err == nil && r.Count == 0:
		o.gone = true
	case o.err == nil && !etcderr.Refused(r.err): // the user may not read the key any more
		o.err = r.err
	}
	return o
}

// keepAlive renews a lease on an idle stream or, if there is none or the stream has failed, on a new one. It returns the TTL,
// which is 0 if the lease is gone. The methods of the etcd client do not fit: KeepAlive does not tell when a renewal was sent, and
// KeepAliveOnce opens a stream for each renewal, which is a login at etcd, and again and again if that fails.
func (c calls) keepAlive(ctx context.Context, lease clientv3.LeaseID) (ttl time.Duration, err error) {
	if c.Client.ActiveConnection() == nil { // a client that was put together from parts
		answer, err := leasing.KeepAliveOnce(ctx, c.Client.Lease, lease, callTimeout)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return 0, nil
		} else if err != nil {
			return 0, err
		}
		return time.Duration(answer.TTL) * time.Second, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for used := true; used; used = used && ctx.Err() == nil {
		s := new(stream)
		select {
		case s = <-c.KeepAlives.idle:
		default:
			used = false
			s.ctx, s.end = context.WithCancel(c.KeepAlives.life)
		}
		goesOn := context.AfterFunc(ctx, s.end)
		ttl, err = s.renew(c.Client, lease)
		idle := c.KeepAlives.idle
		if !goesOn() || err != nil {
			idle = nil
		}
		select {
		case idle <- s:
		default:
			s.end()
		}
		if err == nil {
			return ttl, nil
		}
	}
	return 0, err
}

// revoke revokes a lease, and reports whether the lease is gone. After that, no write on it can succeed.
func (c calls) revoke(ctx context.Context, lease clientv3.LeaseID) (gone bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := c.Client.Lease.Revoke(ctx, lease)
	return err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound)
}
