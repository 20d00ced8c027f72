package leader

import (
	"context"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// elects has two servers register and stand for election, and a client find the one that leads, before the first has closed
// its registry and after.
func (g *group) elects() {
	g.t.Helper()
	a := g.start("a")
	g.start("b")
	client := g.client()
	if who := g.leader(client); who != "a" {
		g.t.Errorf("%s leads, want a, which was first", who)
	}
	if err := a.registry.Close(kit.Bounded(g.t, soon)); err != nil {
		g.t.Error(err)
	}
	kit.Eventually(g.t, soon, "the other leads", func() bool { return g.leader(client) == "b" })
}

// etcd's server can be called in its own process, by a client without a connection.
func TestK12_AnEtcdOfTheSameProcess(t *testing.T) {
	g := newGroup(t)
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	anywhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls, cfg.ListenClientUrls, cfg.AdvertiseClientUrls = anywhere, anywhere, anywhere, anywhere
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.TickMs, cfg.ElectionMs = 10, 100
	cfg.UnsafeNoFsync = true
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	g.parts = func() *clientv3.Client {
		client := v3client.New(server.Server)
		t.Cleanup(func() { _ = client.Close() }) // says that it was closed
		return client
	}
	g.elects()
}

// stubs are a caller's own, which lead to etcd where their client does not.
type stubs struct {
	pb.KVClient
	pb.WatchClient
	pb.LeaseClient
	reads, writes, watches, grants, renewals atomic.Int64
}

type theirKV struct {
	pb.KVClient
	s *stubs
}

func (kv theirKV) Range(ctx context.Context, req *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	kv.s.reads.Add(1)
	return kv.KVClient.Range(ctx, req, opts...)
}

func (kv theirKV) Txn(ctx context.Context, req *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	kv.s.writes.Add(1)
	return kv.KVClient.Txn(ctx, req, opts...)
}

type theirWatch struct {
	pb.WatchClient
	s *stubs
}

func (w theirWatch) Watch(ctx context.Context, opts ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	w.s.watches.Add(1)
	return w.WatchClient.Watch(ctx, opts...)
}

type theirLease struct {
	pb.LeaseClient
	s *stubs
}

func (l theirLease) LeaseGrant(ctx context.Context, req *pb.LeaseGrantRequest, opts ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	l.s.grants.Add(1)
	return l.LeaseClient.LeaseGrant(ctx, req, opts...)
}

func (l theirLease) LeaseKeepAlive(ctx context.Context, opts ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	l.s.renewals.Add(1)
	return l.LeaseClient.LeaseKeepAlive(ctx, opts...)
}

// What the caller has made of stubs of their own is used, though it has the type of what a client comes with.
func TestK12_StubsOfTheCallers(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) *clientv3.Client{
		"a client without a connection": func(t *testing.T) *clientv3.Client { return clientv3.NewCtxClient(context.Background()) },
		"a client whose connection leads nowhere": func(t *testing.T) *clientv3.Client {
			client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
			if err != nil {
				t.Fatal(err)
			}
			return client
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			conn, err := grpc.NewClient(strings.TrimPrefix(etcd.Endpoints()[0], "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			})
			s := &stubs{KVClient: pb.NewKVClient(conn), WatchClient: pb.NewWatchClient(conn), LeaseClient: pb.NewLeaseClient(conn)}
			g.parts = func() *clientv3.Client {
				client := make(t)
				client.KV = clientv3.NewKVFromKVClient(theirKV{s.KVClient, s}, client)
				client.Watcher = clientv3.NewWatchFromWatchClient(theirWatch{s.WatchClient, s}, client)
				client.Lease = clientv3.NewLeaseFromLeaseClient(theirLease{s.LeaseClient, s}, client, time.Second)
				t.Cleanup(func() { _ = client.Close() }) // that of one without a connection says that it was closed
				return client
			}
			g.elects()
			for what, n := range map[string]int64{
				"reads": s.reads.Load(), "writes": s.writes.Load(), "watches": s.watches.Load(), "leases": s.grants.Load(), "renewals": s.renewals.Load(),
			} {
				if n == 0 {
					t.Errorf("no %s went through the caller's stub", what)
				}
			}
		})
	}
}
