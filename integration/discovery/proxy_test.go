package discovery

import (
	"context"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/proxy/grpcproxy"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
)

// TestBehindGrpcProxy follows etcd through its gRPC proxy, which leaves some headers empty: a probe keeps the watch all the same.
func TestBehindGrpcProxy(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	upstream := w.etcd.Client(t)
	kv, _ := grpcproxy.NewKvProxy(upstream)
	watch, watchDone := grpcproxy.NewWatchProxy(ctx, zap.NewNop(), upstream)
	proxy := grpc.NewServer()
	etcdserverpb.RegisterKVServer(proxy, kv)
	etcdserverpb.RegisterWatchServer(proxy, watch)
	lis := kit.Listen(t)
	done := make(chan struct{})
	go func() { defer close(done); _ = proxy.Serve(lis) }()
	t.Cleanup(func() { proxy.Stop(); cancel(); <-done; <-watchDone })

	w.registry = w.newRegistry(w.etcd.Client(t, func(c *clientv3.Config) { c.Endpoints = []string{lis.Addr().String()} }))
	w.register(w.serve("a"))
	conn := w.conn()
	reached(t, conn, soon, "a")
	w.register(w.serve("b"))
	reached(t, conn, soon, "a", "b")
	w.etcd.Calls().Reset()
	must(t, w.etcd.Calls().Wait(kit.Bounded(t, 2*soon), etcdtest.Range, key, 1)) // a probe
	w.delete(key + "/a")
	reached(t, conn, soon, "b")
	if n := w.etcd.Calls().Count(etcdtest.Watch, key); n > 0 {
		t.Errorf("%d new watches in silence", n)
	}
}
