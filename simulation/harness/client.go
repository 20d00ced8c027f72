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
	// connectAgain is how long a process waits before it tries again to make a client.
	connectAgain = time.Second
	// dialTimeout is that of clients.
	dialTimeout = 5 * time.Second
)

// connect makes a client of etcd, as the documentation recommends, or puts one together from parts.
func (p *process) connect() {
	options := []grpc.DialOption{grpc.WithContextDialer(p.dialEtcd()), grpc.WithChainUnaryInterceptor(requestsOf{*p}.call)}
	if p.parts { // nobody else can have it try again soon
		options = append(options, grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1, MaxDelay: time.Second}, MinConnectTimeout: dialTimeout,
		}))
	}
	for {
		client, err := p.w.client(clientConfig(p.w.memberAddrs(), options...), p.name())
		if err != nil {
			// With a password, New itself asks etcd, which may be away.
			time.Sleep(connectAgain)
			continue
		}
		p.client, p.disconnect = client, func() { client.Close() }
		if p.parts {
			put := partsOf(client)
			p.client, p.disconnect = put, func() {
				put.Close()
				client.Close()
			}
		}
		p.client.Lease = lessee{p.client.Lease, p.w, p.from}
		return
	}
}

func clientConfig(endpoints []string, options ...grpc.DialOption) clientv3.Config {
	return clientv3.Config{
		Endpoints:            endpoints,
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          options,
		Logger:               zap.NewNop(),
	}
}

// partsOf puts a client together from parts of its own, over the connection of another.
func partsOf(base *clientv3.Client) *clientv3.Client {
	c := clientv3.NewCtxClient(base.Ctx())
	conn := base.ActiveConnection()
	c.KV = clientv3.NewKVFromKVClient(pb.NewKVClient(conn), base)
	c.Watcher = clientv3.NewWatchFromWatchClient(pb.NewWatchClient(conn), base)
	c.Lease = clientv3.NewLeaseFromLeaseClient(pb.NewLeaseClient(conn), base, dialTimeout+time.Second)
	return c
}

// dialEtcd returns a function that dials etcd as the present life, and counts the dials.
func (p *process) dialEtcd() func(context.Context, string) (net.Conn, error) {
	dial := p.w.network.Dialer(p.from)
	return func(ctx context.Context, addr string) (net.Conn, error) {
		p.w.count(p.index, func(c *check.Counts) { c.Dials++ })
		return dial(ctx, addr)
	}
}

// requestsOf checks the requests of a life of a process as they are made.
type requestsOf struct{ process }

// longestRequest is the longest timeout that a request to etcd may have.
const longestRequest = 30 * time.Second

func (r requestsOf) call(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	ours := strings.HasPrefix(method, "/etcdserverpb.KV/") || strings.HasPrefix(method, "/etcdserverpb.Lease/")
	if ours && r.closed.Load() {
		r.w.report(check.LeftBehind, "the registry of %s is closed, and makes the request %s", r.name(), method)
	}
	if end, ok := ctx.Deadline(); ours && (!ok || time.Until(end) > longestRequest) {
		r.w.report(check.Returns, "%s makes the request %s, which may take until %v", r.name(), method, end)
	}
	return next(ctx, method, req, reply, conn, opts...)
}

// lessee wraps the leases of a client, and records those that it is granted.
type lessee struct {
	clientv3.Lease
	w    *world
	from string
}

// Grant asks etcd for a lease.
func (l lessee) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lease.Grant(ctx, ttl)
	if err == nil {
		l.w.record(func(h *check.History) { h.Owners[int64(resp.ID)] = l.from })
	}
	return resp, err
}
