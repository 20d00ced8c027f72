package leader

import (
	"context"
	"net/url"
	"path"
	"strings"
	"sync"
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
	kit.Eventually(g.t, soon, "a to lead", a.leads.Holds)
	g.start("b")
	client := g.client()
	if who := g.leader(client); who != "a" {
		g.t.Errorf("%s leads, want a, which was first", who)
	}
	must(g.t, a.registry.Close(kit.Bounded(g.t, soon)))
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
	must(t, err)
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()
	g.parts = func() *clientv3.Client {
		client := v3client.New(server.Server)
		t.Cleanup(func() { _ = client.Close() }) // says that it was closed
		return client
	}
	g.elects()
}

// What the caller has made of stubs of their own is used, though it has the type of what a client comes with: that client's
// connection leads nowhere, and theirs to etcd.
func TestK12_StubsOfTheCallers(t *testing.T) {
	g := newGroup(t)
	var mu sync.Mutex
	asked := make(map[string]bool) // by method, through the stubs
	note := func(method string) {
		mu.Lock()
		defer mu.Unlock()
		asked[path.Base(method)] = true
	}
	conn, err := grpc.NewClient(strings.TrimPrefix(etcd.Endpoints()[0], "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			note(method)
			return invoke(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			note(method)
			return open(ctx, desc, cc, method, opts...)
		}))
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	g.parts = func() *clientv3.Client {
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{"127.0.0.1:1"}, Logger: zap.NewNop()})
		must(t, err)
		client.KV = clientv3.NewKVFromKVClient(pb.NewKVClient(conn), client)
		client.Watcher = clientv3.NewWatchFromWatchClient(pb.NewWatchClient(conn), client)
		client.Lease = clientv3.NewLeaseFromLeaseClient(pb.NewLeaseClient(conn), client, time.Second)
		t.Cleanup(func() { must(t, client.Close()) })
		return client
	}
	g.elects()
	mu.Lock()
	defer mu.Unlock()
	for _, method := range []string{"Range", "Txn", "Watch", "LeaseGrant", "LeaseKeepAlive"} {
		if !asked[method] {
			t.Errorf("no %s went through the caller's stub", method)
		}
	}
}
