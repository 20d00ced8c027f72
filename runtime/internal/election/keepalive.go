package election

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	leasing "github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// KeepAlives renews the leases of the elections of a registry, on one stream: a stream is a login at etcd, and a connection may
// allow few. The methods of the etcd client do not fit: KeepAlive does not tell when a renewal was sent, and KeepAliveOnce opens a
// stream for each renewal. Its methods are safe for concurrent use.
type KeepAlives struct {
	client  *clientv3.Client
	life    context.Context // ends the streams
	streams sync.WaitGroup

	mu      sync.Mutex // guards the fields of the streams, too
	current *stream    // for the next renewal; nil if there is none
}

// stream is a stream of renewals.
type stream struct {
	grpc     pb.Lease_LeaseKeepAliveClient // nil until the stream is open
	end      context.CancelFunc
	waiting  map[clientv3.LeaseID]chan<- answer // for the answers to renewals
	answered bool                               // etcd has answered a renewal
}

type answer struct {
	ttl time.Duration
	err error
}

// NewKeepAlives returns the KeepAlives of a client. Its streams end with life.
func NewKeepAlives(life context.Context, client *clientv3.Client) *KeepAlives {
	return &KeepAlives{client: client, life: life}
}

// Wait returns when all streams have ended.
func (k *KeepAlives) Wait() { k.streams.Wait() }

// renew renews a lease, and returns the TTL, which is 0 if the lease is gone. It renews once more if a stream fails that etcd has
// answered before.
func (k *KeepAlives) renew(ctx context.Context, lease clientv3.LeaseID) (ttl time.Duration, err error) {
	if k.client.ActiveConnection() == nil { // a client that was put together from parts
		renewed, err := leasing.KeepAliveOnce(ctx, k.client.Lease, lease, callTimeout)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return 0, nil
		} else if err != nil {
			return 0, err
		}
		return time.Duration(renewed.TTL) * time.Second, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		s, answers := k.send(lease)
		select {
		case a := <-answers:
			if a.err == nil || !s.answered || ctx.Err() != nil {
				return a.ttl, a.err
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				s.end()
			}
			return 0, ctx.Err()
		}
	}
}

// send sends a renewal on the current stream or, if there is none or etcd has not answered the lease's last renewal there, on a new
// one, which may lead to another member.
func (k *KeepAlives) send(lease clientv3.LeaseID) (*stream, <-chan answer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.current
	if s == nil || s.waiting[lease] != nil {
		ctx, end := context.WithCancel(k.life)
		s = &stream{end: end, waiting: make(map[clientv3.LeaseID]chan<- answer)}
		k.current = s
		k.streams.Go(func() { k.run(ctx, s) })
	}
	answers := make(chan answer, 1)
	s.waiting[lease] = answers
	if s.grpc != nil {
		s.send(lease)
	}
	return s, answers
}

// send sends a renewal. After an error, Recv fails, too.
func (s *stream) send(lease clientv3.LeaseID) {
	_ = s.grpc.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
}

// run opens a stream, and receives the answers until the stream fails, or is no longer current and has nothing to receive.
func (k *KeepAlives) run(ctx context.Context, s *stream) {
	defer s.end()
	grpc, err := clientv3.RetryLeaseClient(k.client).LeaseKeepAlive(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		s.grpc = grpc
		for lease := range s.waiting {
			s.send(lease)
		}
	}
	for err == nil && (k.current == s || len(s.waiting) > 0) {
		k.mu.Unlock()
		var resp *pb.LeaseKeepAliveResponse
		resp, err = grpc.Recv()
		k.mu.Lock()
		lease := clientv3.LeaseID(resp.GetID())
		if answers := s.waiting[lease]; answers != nil && err == nil {
			s.answered = true
			answers <- answer{ttl: time.Duration(resp.TTL) * time.Second}
			delete(s.waiting, lease)
		}
	}
	if k.current == s {
		k.current = nil
	}
	for _, answers := range s.waiting {
		answers <- answer{err: err}
	}
}
