package worstday

import (
	"context"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// meter counts what an etcd client sends, by method. It knows the leases that the client asked for.
type meter struct {
	mu     sync.Mutex
	counts map[string]int
	leases []int64
	hang   int // this many unary calls get no answer
}

func newMeter() *meter { return &meter{counts: make(map[string]int)} }

// add counts a message, and reports whether it gets no answer.
func (m *meter) add(method string) (hangs bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts[path.Base(method)]++
	return m.hang > 0
}

func (m *meter) setHang(n int) { m.mu.Lock(); defer m.mu.Unlock(); m.hang = n }

func (m *meter) reset() { m.mu.Lock(); defer m.mu.Unlock(); clear(m.counts) }

// sum is how many messages the client has sent since the fault began.
func (m *meter) sum() (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.counts {
		n += c
	}
	return n
}

// by is the count of each method.
func (m *meter) by() map[string]int { m.mu.Lock(); defer m.mu.Unlock(); return maps.Clone(m.counts) }

// granted returns the leases that the client asked for, also those of which it did not hear.
func (m *meter) granted() []int64 { m.mu.Lock(); defer m.mu.Unlock(); return slices.Clone(m.leases) }

// leaseIDs counts the leases of all beds: a client chooses the number of a lease, so that its meter knows all.
var leaseIDs atomic.Int64

func (m *meter) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if grant, ok := req.(*etcdserverpb.LeaseGrantRequest); ok {
				grant.ID = 1<<40 + leaseIDs.Add(1)
				m.mu.Lock()
				m.leases = append(m.leases, grant.ID)
				m.mu.Unlock()
			}
			if m.add(method) {
				m.mu.Lock()
				m.hang--
				m.mu.Unlock()
				select {
				case <-time.After(13 * time.Second): // the keepalive ends the connection
					return status.Error(codes.Unavailable, "keepalive ping failed to receive ACK within timeout")
				case <-ctx.Done():
					return status.FromContextError(ctx.Err()).Err()
				}
			}
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := open(ctx, desc, cc, method, opts...)
			return &metered{s, m, method}, err
		}),
	}
}

// metered counts the messages of a stream.
type metered struct {
	grpc.ClientStream
	meter  *meter
	method string
}

func (s *metered) SendMsg(m any) error { s.meter.add(s.method); return s.ClientStream.SendMsg(m) }
