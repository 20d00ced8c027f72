package harness

import (
	"context"
	"net"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

const (
	// connectAgain is the wait of a process before it tries again to make a
	// client.
	connectAgain = time.Second

	// dialTimeout is the clients' DialTimeout.
	dialTimeout = 5 * time.Second
)

// connect makes an etcd client: by clientv3.New or, if parts is set, from
// separate parts over its connection.
func (p *process) connect() {
	dial := p.w.network.Dialer(p.from)
	counted := func(ctx context.Context, addr string) (net.Conn, error) {
		p.w.count(p.index, func(c *check.Counts) { c.Dials++ })
		return dial(ctx, addr)
	}

	options := []grpc.DialOption{
		grpc.WithChainUnaryInterceptor(requestsOf{*p}.call),
		grpc.WithContextDialer(counted),
	}
	if p.parts { // gRPC retries late, so this process must retry soon
		options = append(options, grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  time.Second,
				Multiplier: 1,
				MaxDelay:   time.Second,
			},
			MinConnectTimeout: dialTimeout,
		}))
	}

	config := ClientConfig(p.w.memberAddrs(), options...)
	if p.w.schedule.Auth {
		config.Username = p.name()
		config.Password = password
	}

	client := Connect(config)
	p.client = client
	p.disconnect = func() { client.Close() }

	if p.parts {
		conn := client.ActiveConnection()
		assembled := clientv3.NewCtxClient(client.Ctx())
		assembled.KV = clientv3.NewKVFromKVClient(pb.NewKVClient(conn), client)
		assembled.Watcher = clientv3.NewWatchFromWatchClient(pb.NewWatchClient(conn),
			client)
		assembled.Lease = clientv3.NewLeaseFromLeaseClient(pb.NewLeaseClient(conn),
			client, dialTimeout+time.Second)

		p.client = assembled
		p.disconnect = func() {
			assembled.Close()
			client.Close()
		}
	}

	p.client.Lease = lessee{p.client.Lease, p.w, p.from}
}

// Connect makes an etcd client. It tries again after an error: with a password,
// clientv3.New sends a request to etcd, which may be down.
func Connect(config clientv3.Config) *clientv3.Client {
	for {
		client, err := clientv3.New(config)
		if err == nil {
			return client
		}

		time.Sleep(connectAgain)
	}
}

// ClientConfig returns the configuration of the etcd client of a process.
func ClientConfig(endpoints []string, options ...grpc.DialOption) clientv3.Config {
	return clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          options,
		Logger:               zap.NewNop(),
	}
}

// requestsOf checks the requests of an incarnation before they are sent.
type requestsOf struct{ process }

// longestRequest bounds the timeouts of requests to etcd.
const longestRequest = 80 * time.Second

func (r requestsOf) call(
	ctx context.Context,
	method string,
	req, reply any,
	conn *grpc.ClientConn,
	next grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	ours := strings.HasPrefix(method, "/etcdserverpb.KV/") ||
		strings.HasPrefix(method, "/etcdserverpb.Lease/")
	if ours && r.closed.Load() {
		r.w.report(check.LeftBehind,
			"the closed registry of %s made the request %s, want none", r.name(),
			method)
	}

	end, ok := ctx.Deadline()
	if ours && (!ok || time.Until(end) > longestRequest) {
		r.w.report(check.Returns,
			"%s made the request %s with the deadline %v, want an earlier one", r.name(),
			method, end)
	}

	return next(ctx, method, req, reply, conn, opts...)
}

// lessee wraps a client's Lease interface and records the granted leases.
type lessee struct {
	clientv3.Lease
	w    *world
	from string
}

// Grant asks etcd for a lease.
func (l lessee) Grant(
	ctx context.Context,
	ttl int64,
) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lease.Grant(ctx, ttl)
	if err == nil {
		l.w.record(func(h *check.History) { h.Owners[int64(resp.ID)] = l.from })
	}

	return resp, err
}
