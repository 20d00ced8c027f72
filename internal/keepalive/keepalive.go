// Package keepalive renews leases.
package keepalive

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
)

// Renewer renews leases on one stream: a stream is a login at etcd, and a connection may allow few. The methods of the etcd client do
// not fit: KeepAlive does not tell when a renewal was sent, nor renews a lease once more when etcd is silent, and KeepAliveOnce opens a
// stream for each renewal. Its methods are safe for concurrent use.
type Renewer struct {
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
	renewed *clientv3.LeaseKeepAliveResponse
	err     error
}

// New returns the Renewer of a client. Its streams end with life.
func New(life context.Context, client *clientv3.Client) *Renewer {
	return &Renewer{client: client, life: life}
}

// Wait returns when all streams have ended.
func (r *Renewer) Wait() { r.streams.Wait() }

// Renew renews a lease within timeout, once more if a stream fails that etcd has answered before. The error is
// rpctypes.ErrLeaseNotFound if the lease is gone.
func (r *Renewer) Renew(ctx context.Context, lease clientv3.LeaseID, timeout time.Duration) (*clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if r.client.ActiveConnection() == nil {
		return renewOnce(ctx, r.client.Lease, lease)
	}
	for {
		s, answers := r.send(lease)
		select {
		case a := <-answers:
			if a.err == nil && a.renewed.TTL <= 0 {
				return r.client.Lease.KeepAliveOnce(ctx, lease) // Lease may be a wrapper that reaches another etcd
			}
			if a.err == nil || !s.answered || ctx.Err() != nil {
				return a.renewed, a.err
			}
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				s.end()
			}
			return nil, ctx.Err()
		}
	}
}

// renewOnce renews a lease by a client that was put together from parts. Its KeepAliveOnce retries without a pause. So the lease is
// first read, and the renewal gets little more time than the read took.
func renewOnce(ctx context.Context, leases clientv3.Lease, lease clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	asked := time.Now()
	if _, err := leases.TimeToLive(ctx, lease); err != nil && etcderr.Code(err) != codes.PermissionDenied {
		return nil, err // a renewal would fail, too
	}
	ctx, cancel := context.WithTimeout(ctx, 4*time.Since(asked)+100*time.Millisecond)
	defer cancel()
	return leases.KeepAliveOnce(ctx, lease)
}

// send sends a renewal on the current stream or, if there is none or etcd has not answered the lease's last renewal there, on a new
// one, which may lead to another member.
func (r *Renewer) send(lease clientv3.LeaseID) (*stream, <-chan answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.current
	if s == nil || s.waiting[lease] != nil {
		ctx, end := context.WithCancel(r.life)
		s = &stream{end: end, waiting: make(map[clientv3.LeaseID]chan<- answer)}
		r.current = s
		r.streams.Go(func() { r.run(ctx, s) })
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

// run opens a stream, and receives the answers until the stream fails, or until another is current and all answers have come.
func (r *Renewer) run(ctx context.Context, s *stream) {
	defer s.end()
	grpc, err := clientv3.RetryLeaseClient(r.client).LeaseKeepAlive(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		s.grpc = grpc
		for lease := range s.waiting {
			s.send(lease)
		}
	}
	for err == nil && (r.current == s || len(s.waiting) > 0) {
		r.mu.Unlock()
		var resp *pb.LeaseKeepAliveResponse
		resp, err = grpc.Recv()
		r.mu.Lock()
		lease := clientv3.LeaseID(resp.GetID())
		if answers := s.waiting[lease]; answers != nil && err == nil {
			s.answered = true
			delete(s.waiting, lease)
			answers <- answer{&clientv3.LeaseKeepAliveResponse{ResponseHeader: resp.Header, ID: lease, TTL: resp.TTL}, nil}
		}
	}
	if r.current == s {
		r.current = nil
	}
	for _, answers := range s.waiting {
		answers <- answer{err: err}
	}
}
