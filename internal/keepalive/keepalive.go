// Package keepalive renews leases.
package keepalive

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/etcderr"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/login"
)

// openTimeout bounds the opening of a stream, which may be a login. It is long:
// if given up, an overloaded etcd begins again.
const openTimeout = 80 * time.Second

// errOpening is the error of a renewal while an earlier one of the lease waits
// for a stream.
var errOpening = errors.New("an earlier renewal still waits for a stream to open")

// Renewer renews leases on one stream, because each stream is a login at etcd,
// and a connection may allow few streams. It is safe for concurrent use.
//
// The etcd client's methods do not suffice. KeepAlive does not report when a
// renewal was sent, and does not repeat it when etcd does not answer.
// KeepAliveOnce opens a stream for each renewal.
type Renewer struct {
	client  *clientv3.Client
	login   *login.Login
	life    context.Context // ends the streams
	streams sync.WaitGroup

	mu      sync.Mutex // guards the fields of the streams, too
	current *stream    // for the next renewal; nil if there is none
}

// stream is a stream of renewals.
type stream struct {
	grpc  pb.Lease_LeaseKeepAliveClient // nil until the stream is open
	since time.Time                     // when the stream was opened
	end   context.CancelFunc

	// a channel for each renewal without an answer, the earliest first
	waiting map[clientv3.LeaseID][]answers

	// renewed once the stream is open, or after its first answer if it is
	queued []clientv3.LeaseID

	answered bool  // etcd has answered a renewal
	err      error // why the stream has failed
}

// answers is closed if the stream fails.
type answers chan *clientv3.LeaseKeepAliveResponse

// New returns the Renewer of a client. Its streams end with life, and log in by
// l, which is nil for a client without a password.
func New(life context.Context, client *clientv3.Client, l *login.Login) *Renewer {
	return &Renewer{client: client, login: l, life: life}
}

// Wait returns when all streams have ended.
func (r *Renewer) Wait() {
	r.streams.Wait()
}

// Renew renews a lease within timeout. It tries once more if a stream fails on
// which etcd has answered before. The error is rpctypes.ErrLeaseNotFound if the
// lease is gone.
func (r *Renewer) Renew(
	ctx context.Context,
	lease clientv3.LeaseID,
	timeout time.Duration,
) (*clientv3.LeaseKeepAliveResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()

	if r.client.ActiveConnection() == nil {
		return r.renewOnce(ctx, lease)
	}

	for first := true; ; first = false {
		s, answers := r.send(lease)
		if s == nil {
			return nil, errOpening
		}

		select {
		case answer, ok := <-answers:
			switch {
			case ok && answer.TTL > 0:
				return answer, nil
			case ok:
				// gone, unless Lease is a wrapper that reaches another etcd
				return r.renewOnce(ctx, lease)
			case !first || !s.answered || ctx.Err() != nil:
				return nil, s.err
			}

		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				r.onSilence(s, timeout)
			}

			return nil, ctx.Err()
		}
	}
}

// onSilence ends a stream on which etcd has not answered a renewal within the
// timeout, unless the current stream has only just been opened. openTimeout
// bounds the opening of a stream.
func (r *Renewer) onSilence(s *stream, timeout time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()

	if s.grpc != nil && (s != r.current || time.Since(s.since) >= timeout) {
		s.end()
	}
}

// renewOnce renews a lease by the client's KeepAliveOnce, which opens a stream,
// and so logs in, and retries without a pause. Therefore renewOnce first reads
// the lease: it does not renew one that is gone, and gives the renewal of a
// live one little more time than the read took.
func (r *Renewer) renewOnce(
	ctx context.Context,
	lease clientv3.LeaseID,
) (*clientv3.LeaseKeepAliveResponse, error) {
	asked := time.Now()
	read, err := r.client.TimeToLive(ctx, lease)

	switch {
	case err == nil && read.TTL < 0:
		return nil, rpctypes.ErrLeaseNotFound
	case err != nil && etcderr.Code(err) != codes.PermissionDenied:
		return nil, err // a renewal would fail, too
	}

	ctx, cancel := context.WithTimeout(ctx, 4*time.Since(asked)+100*time.Millisecond)
	defer cancel()

	return r.client.KeepAliveOnce(ctx, lease)
}

// send sends a renewal on the current stream. It opens a new stream, which may
// lead to another member, if there is none, or if etcd has not answered the
// lease's last renewal there. While a stream is being opened, send opens no
// other: more logins would keep an overloaded etcd overloaded. It returns nil
// if an earlier renewal of the lease waits for that stream.
func (r *Renewer) send(lease clientv3.LeaseID) (*stream, answers) {
	r.mu.Lock()
	defer r.mu.Unlock()

	s := r.current
	silent := s != nil && s.grpc != nil && s.waiting[lease] != nil
	if s == nil || silent && len(r.client.Endpoints()) > 1 {
		ctx, end := context.WithCancel(r.life)
		s = &stream{end: end, waiting: make(map[clientv3.LeaseID][]answers)}
		r.current = s
		r.streams.Go(func() { r.run(ctx, s) })
	}

	if s.grpc == nil && s.waiting[lease] != nil {
		return nil, nil
	}

	a := make(answers, 1)
	s.waiting[lease] = append(s.waiting[lease], a)

	if s.answered {
		s.send(lease)
	} else {
		s.queued = append(s.queued, lease)
	}

	return s, a
}

// send sends renewals. After an error, Recv fails, too.
func (s *stream) send(leases ...clientv3.LeaseID) {
	for _, lease := range leases {
		_ = s.grpc.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
	}
}

// receive passes an answer to the waiter for the earliest renewal of its lease:
// later renewals may never have reached etcd.
func (s *stream) receive(resp *pb.LeaseKeepAliveResponse) {
	s.send(s.queued...)
	s.queued = nil
	s.answered = true

	lease := clientv3.LeaseID(resp.ID)
	if all := s.waiting[lease]; len(all) > 0 {
		all[0] <- &clientv3.LeaseKeepAliveResponse{
			ResponseHeader: resp.Header,
			ID:             lease,
			TTL:            resp.TTL,
		}

		s.waiting[lease] = all[1:]
	}

	if len(s.waiting[lease]) == 0 {
		delete(s.waiting, lease)
	}
}

// run opens a stream, and receives the answers until the stream fails, or until
// another is current and all answers have come. Before the first answer, only
// run sends: gRPC may still move the stream to another connection, and Send may
// have to wait for one.
func (r *Renewer) run(ctx context.Context, s *stream) {
	defer s.end()

	overdue := time.AfterFunc(openTimeout, s.end)
	done := r.login.Stream(ctx)
	grpc, err := clientv3.RetryLeaseClient(r.client).LeaseKeepAlive(ctx)
	done(err)
	overdue.Stop()

	r.mu.Lock()
	defer r.mu.Unlock()

	if err == nil {
		first := s.queued
		s.grpc = grpc
		s.since = time.Now()
		s.queued = nil

		r.mu.Unlock()
		s.send(first...)
		r.mu.Lock()
	}

	for err == nil && (r.current == s || len(s.waiting) > 0) {
		var resp *pb.LeaseKeepAliveResponse

		r.mu.Unlock()
		resp, err = grpc.Recv()
		r.mu.Lock()

		if err == nil {
			s.receive(resp)
		}
	}

	if r.current == s {
		r.current = nil
	}

	s.err = err

	for _, all := range s.waiting {
		for _, a := range all {
			close(a)
		}
	}
}
