package harness

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// connectAgain is how long a process waits before it tries again to make a client.
	connectAgain = time.Second
	// dialTimeout is that of clients.
	dialTimeout = 5 * time.Second
)

// connect makes a client of etcd, as the documentation recommends, or one of the others that callers of the runtime may hand over.
func (p *process) connect() {
	kind := p.w.Plan.Client(p.index)
	options := []grpc.DialOption{grpc.WithContextDialer(p.dialEtcd())}
	seen := requestsOf{p.w, p.name(), p.closed, kind == schedule.Wrapped}
	options = append(options, grpc.WithChainUnaryInterceptor(seen.call), grpc.WithChainStreamInterceptor(seen.stream))
	if kind == schedule.Parts { // nobody else can have it try again soon
		options = append(options, grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: time.Second, Multiplier: 1, MaxDelay: time.Second}, MinConnectTimeout: dialTimeout,
		}))
	}
	config := clientv3.Config{
		Endpoints:            p.w.memberAddrs(),
		DialTimeout:          dialTimeout,
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 3 * time.Second,
		DialOptions:          options,
		Logger:               zap.NewNop(),
	}
	for {
		client, err := p.w.rights.client(config, p.name())
		if err != nil {
			// With a password, New itself asks etcd, which may be away.
			time.Sleep(connectAgain)
			continue
		}
		p.disconnect = func() { client.Close() }
		p.client = client
		switch kind {
		case schedule.Wrapped:
			client.KV, client.Watcher = handedKV{client.KV}, handedWatcher{client.Watcher}
		case schedule.Parts:
			parts := partsOf(client)
			p.client, p.disconnect = parts, func() {
				parts.Close()
				client.Close()
			}
		}
		p.client.Lease = lessee{p.client.Lease, p.w.Record, p.from}
		return
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

// dialEtcd returns what dials as from the present life, and counts that.
func (p *process) dialEtcd() func(context.Context, string) (net.Conn, error) {
	dial := p.w.network.Dialer(p.from)
	return func(ctx context.Context, addr string) (net.Conn, error) {
		p.dials.Add(1)
		return dial(ctx, addr)
	}
}

// handed marks the context of a request that goes through what was handed over.
type handed struct{}

func hand(ctx context.Context) context.Context { return context.WithValue(ctx, handed{}, true) }

// requestsOf judges the requests of a life as they are made.
type requestsOf struct {
	w       *world
	name    string
	closed  *atomic.Bool // the registry is
	wrapped bool         // the client's own KV, Watcher and Lease are
}

// longestRequest is how much time a request may give etcd.
const longestRequest = 30 * time.Second

// look judges a request of one of etcd's services. The stream of keepalives is opened by etcd's client, and by itself.
func (r requestsOf) look(ctx context.Context, method string, unary bool) {
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/etcdserverpb."), "/")
	if service != "KV" && service != "Watch" && service != "Lease" || method == pb.Lease_LeaseKeepAlive_FullMethodName {
		return
	}
	if unary && r.closed.Load() { // etcd's client takes up by itself a stream of watches that it was opening as they ended
		r.w.Report(check.LeftBehind, "the registry of %s is closed, and makes the request %s", r.name, method)
	}
	if r.wrapped && ctx.Value(handed{}) == nil {
		r.w.Report(check.HandedIn, "%s of %s goes past what was wrapped", method, r.name)
	}
	if end, ok := ctx.Deadline(); unary && (!ok || time.Until(end) > longestRequest) {
		r.w.Report(check.Hangs, "%s makes the request %s, which may take until %v", r.name, method, end)
	}
}

func (r requestsOf) call(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	r.look(ctx, method, true)
	return next(ctx, method, req, reply, conn, opts...)
}

func (r requestsOf) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	r.look(ctx, method, false)
	return next(ctx, desc, conn, method, opts...)
}

// handedKV marks what goes through it.
type handedKV struct{ clientv3.KV }

func (k handedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return k.KV.Get(hand(ctx), key, opts...)
}

func (k handedKV) Put(ctx context.Context, key, value string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	return k.KV.Put(hand(ctx), key, value, opts...)
}

func (k handedKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	return k.KV.Delete(hand(ctx), key, opts...)
}

func (k handedKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	return k.KV.Do(hand(ctx), op)
}

func (k handedKV) Txn(ctx context.Context) clientv3.Txn { return k.KV.Txn(hand(ctx)) }

// handedWatcher does likewise.
type handedWatcher struct{ clientv3.Watcher }

func (w handedWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	return w.Watcher.Watch(hand(ctx), key, opts...)
}

// RequestProgress opens the stream if that has just ended.
func (w handedWatcher) RequestProgress(ctx context.Context) error {
	return w.Watcher.RequestProgress(hand(ctx))
}

// lessee is a client's leases. It has the record note those that it is granted, and marks what goes through it.
type lessee struct {
	clientv3.Lease
	record *record.Record
	from   string
}

// Grant asks etcd for a lease.
func (l lessee) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	resp, err := l.Lease.Grant(hand(ctx), ttl)
	if err == nil {
		l.record.Granted(l.from, int64(resp.ID))
	}
	return resp, err
}

func (l lessee) Revoke(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return l.Lease.Revoke(hand(ctx), id)
}

func (l lessee) TimeToLive(ctx context.Context, id clientv3.LeaseID, opts ...clientv3.LeaseOption) (*clientv3.LeaseTimeToLiveResponse, error) {
	return l.Lease.TimeToLive(hand(ctx), id, opts...)
}
