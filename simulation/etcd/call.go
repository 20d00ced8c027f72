package etcd

import (
	"context"
	"net"
	"path"
	"slices"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"
)

// Call is a client's request that has arrived at a member.
type Call struct {
	Client string // host of the client
	Member int

	// "Put", "Txn", "Range", "LeaseGrant", "LeaseKeepAlive", "Watch" and so on
	Method string

	Keys  []string
	Write bool
}

// Verdict decides what happens to a call. The zero Verdict lets it pass.
type Verdict struct {
	// delay before the call takes effect or is rejected, even if the client
	// gives up
	Before time.Duration

	After time.Duration // delay between the effect and the answer
	Lose  bool          // the call takes effect and is never answered; not for watches
	Err   error         // the call fails with this error and has no effect
}

// Intercept sets the function that decides on each unary request, each message
// of LeaseKeepAlive and each watch; nil lets all pass.
func (c *Cluster) Intercept(f func(Call) Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()

	c.intercept = f
}

// judge returns the verdict on a call. The verdict's Before includes the time
// that the call waits in the queue.
func (p *process) judge(ctx context.Context, method string, message any) Verdict {
	p.c.mu.Lock()
	intercept := p.c.intercept
	p.c.mu.Unlock()

	call := Call{Client: client(ctx), Member: p.member, Method: path.Base(method)}
	call.Keys, call.Write = about(message)

	var v Verdict
	if intercept != nil {
		v = intercept(call)
	}

	v.Before += p.enqueue(call.Method)

	return v
}

// client returns the host of the client that made the request.
func client(ctx context.Context) string {
	p, _ := peer.FromContext(ctx) // every request of a gRPC server has a peer
	return hostOf(p.Addr)
}

func hostOf(addr net.Addr) string {
	return addr.(*net.TCPAddr).IP.String()
}

// about returns the keys in a request, and whether the request is a write.
func about(message any) (keys []string, write bool) {
	switch m := message.(type) {
	case *pb.CompactionRequest, *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest,
		*pb.LeaseKeepAliveRequest:
		return nil, true
	case *pb.RangeRequest:
		return []string{string(m.Key)}, false
	case *pb.PutRequest:
		return []string{string(m.Key)}, true
	case *pb.DeleteRangeRequest:
		return []string{string(m.Key)}, true
	case *pb.WatchRequest:
		return []string{string(m.GetCreateRequest().GetKey())}, false

	case *pb.TxnRequest:
		for _, op := range slices.Concat(m.Success, m.Failure) {
			more, writes := about(operation(op))
			keys = append(keys, more...)
			write = write || writes
		}
	}

	return keys, write
}

// operation returns the request in an operation of a transaction, nil for a
// transaction in a transaction.
func operation(op *pb.RequestOp) any {
	switch r := op.Request.(type) {
	case *pb.RequestOp_RequestRange:
		return r.RequestRange
	case *pb.RequestOp_RequestPut:
		return r.RequestPut
	case *pb.RequestOp_RequestDeleteRange:
		return r.RequestDeleteRange
	}

	return nil
}

// interceptUnary applies the verdict on a request before and after etcd handles
// it.
func (p *process) interceptUnary(
	ctx context.Context,
	message any,
	info *grpc.UnaryServerInfo,
	etcd grpc.UnaryHandler,
) (any, error) {
	v := p.judge(ctx, info.FullMethod, message)
	if err := sleep(p.ctx, v.Before); err != nil {
		return nil, err
	}

	if v.Err != nil {
		return nil, v.Err
	}

	own := ctx
	if v.Before > 0 {
		// etcd carries out the request even if the client has given up
		own = context.WithoutCancel(ctx)
	}

	var answer any
	err := p.use(own, func(own context.Context) (err error) {
		answer, err = etcd(own, message)
		p.c.mirror.answered(client(ctx), answer)

		return err
	})

	if v.Lose {
		<-ctx.Done() // until the client gives up or the process ends
		return nil, ctx.Err()
	}

	if err := sleep(ctx, v.After); err != nil {
		return nil, err
	}

	return answer, err
}

// interceptStream applies the verdicts on keepalives and watches. The opening
// of a stream waits in the queue, too.
func (p *process) interceptStream(
	srv any,
	s grpc.ServerStream,
	info *grpc.StreamServerInfo,
	etcd grpc.StreamHandler,
) error {
	if err := sleep(p.ctx, p.enqueue(opening)); err != nil {
		return err
	}

	switch info.FullMethod {
	case pb.Lease_LeaseKeepAlive_FullMethodName, pb.Watch_Watch_FullMethodName:
		s = &stream{ServerStream: s, p: p, method: info.FullMethod}
	}

	return etcd(srv, s)
}

// stream is a stream of keepalives or of watches. etcd answers each keepalive
// before it receives the next. For watches, etcd receives and sends in separate
// goroutines.
type stream struct {
	grpc.ServerStream
	p      *process
	method string

	// the Unix time in nanoseconds until which nothing is received or sent
	held atomic.Int64

	mute atomic.Bool // whether the next answer is lost
}

// RecvMsg receives the next message. It applies the verdict on keepalives and
// on requests for a watch.
func (s *stream) RecvMsg(m any) error {
	if err := s.awaitRelease(); err != nil {
		return err
	}

	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}

	watch, isWatch := m.(*pb.WatchRequest)
	if isWatch && watch.GetCreateRequest() == nil {
		return nil
	}

	v := s.p.judge(s.Context(), s.method, m)
	if err := sleep(s.p.ctx, v.Before); err != nil {
		return err
	}

	s.mute.Store(v.Lose && !isWatch)
	s.held.Store(time.Now().Add(v.After).UnixNano())

	return v.Err
}

// SendMsg sends an answer or events. It drops an answer that the verdict loses.
// It sends events only after the observer of OnCommit has seen them.
func (s *stream) SendMsg(m any) error {
	if r, ok := m.(*pb.WatchResponse); ok {
		s.p.c.mirror.await(r.Header.GetRevision())
	}

	if err := s.awaitRelease(); err != nil || s.mute.Load() {
		return err
	}

	return s.ServerStream.SendMsg(m)
}

// awaitRelease waits while the stream is held.
func (s *stream) awaitRelease() error {
	return sleep(s.p.ctx, time.Until(time.Unix(0, s.held.Load())))
}
