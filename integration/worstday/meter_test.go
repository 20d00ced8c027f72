package worstday

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// meter counts the messages of an etcd client, and records the leases that the
// client requested.
type meter struct {
	mu     sync.Mutex
	count  int
	leases []clientv3.LeaseID
	hang   int // how many further unary calls get no answer
}

// restart starts the count at 0. The next unary calls, hang in number, get no
// answer.
func (m *meter) restart(hang int) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.count = 0
	m.hang = hang
}

// recover makes all further calls get an answer. It does not end hangs that
// have begun.
func (m *meter) recover() {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.hang = 0
}

// sum returns the number of messages that the client has sent since restart.
func (m *meter) sum() int {
	m.mu.Lock()
	defer m.mu.Unlock()

	return m.count
}

// leaseIDs counts leases. Meters choose the lease ids, so that they know them
// even if an answer is lost.
var leaseIDs atomic.Int64

// call counts a unary call, and reports whether it gets no answer.
func (m *meter) call(req any) (hangs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()

	m.count++

	if grant, ok := req.(*etcdserverpb.LeaseGrantRequest); ok {
		grant.ID = 1<<40 + leaseIDs.Add(1)
		m.leases = append(m.leases, clientv3.LeaseID(grant.ID))
	}

	hangs = m.hang > 0
	m.hang--

	return hangs
}

func (m *meter) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(m.unary),
		grpc.WithChainStreamInterceptor(m.stream),
	}
}

func (m *meter) unary(
	ctx context.Context,
	method string,
	req, reply any,
	cc *grpc.ClientConn,
	invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	if !m.call(req) {
		return invoke(ctx, method, req, reply, cc, opts...)
	}

	kit.Pause(ctx, 13*time.Second)

	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err()).Err()
	}

	// the error of gRPC's keepalive, which would end the connection
	return status.Error(codes.Unavailable,
		"keepalive ping failed to receive ACK within timeout")
}

func (m *meter) stream(
	ctx context.Context,
	desc *grpc.StreamDesc,
	cc *grpc.ClientConn,
	method string,
	open grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	s, err := open(ctx, desc, cc, method, opts...)
	return &metered{s, m}, err
}

// metered counts the messages of a stream.
type metered struct {
	grpc.ClientStream
	meter *meter
}

func (s *metered) SendMsg(m any) error {
	s.meter.mu.Lock()
	s.meter.count++
	s.meter.mu.Unlock()

	return s.ClientStream.SendMsg(m)
}
