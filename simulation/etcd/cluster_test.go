package etcd_test

import (
	"context"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/etcd"
)

// start returns a cluster on loopback with a client to each member.
func start(t *testing.T, members int, opts ...etcd.Option) (*etcd.Cluster, []*clientv3.Client) {
	t.Helper()
	c := etcd.New(members, opts...)
	t.Cleanup(c.Close)
	var clients []*clientv3.Client
	for i := range members {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.Serve(i, lis)
		clients = append(clients, dial(t, clientv3.Config{Endpoints: []string{lis.Addr().String()}}))
	}
	return c, clients
}

func dial(t *testing.T, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	cfg.Logger = zap.NewNop()
	cfg.DialKeepAliveTime, cfg.DialKeepAliveTimeout = 10*time.Second, 3*time.Second
	client, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// TestKeysLeasesWatches goes once through what a registry does.
func TestKeysLeasesWatches(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, clients := start(t, 1)
	client := clients[0]
	lease, err := client.Grant(ctx, 10)
	if err != nil {
		t.Fatal(err)
	}
	events := client.Watch(clientv3.WithRequireLeader(ctx), "a/", clientv3.WithPrefix(), clientv3.WithPrevKV())
	put, err := client.Put(ctx, "a/1", "one", clientv3.WithLease(lease.ID))
	if err != nil {
		t.Fatal(err)
	}
	if put.Header.Revision != 2 {
		t.Errorf("the first put has revision %d, not 2", put.Header.Revision)
	}
	alive, err := client.KeepAliveOnce(ctx, lease.ID)
	if err != nil || alive.TTL != 10 {
		t.Errorf("keepalive: %v, %v", alive, err)
	}
	if _, err := client.Revoke(ctx, lease.ID); err != nil {
		t.Fatal(err)
	}
	var got []*clientv3.Event
	for len(got) < 2 {
		got = append(got, (<-events).Events...)
	}
	if !got[0].IsCreate() || got[1].Type != clientv3.EventTypeDelete || string(got[1].PrevKv.Value) != "one" {
		t.Errorf("the watch heard of %v", got)
	}
	past := client.Watch(ctx, "a/1", clientv3.WithRev(put.Header.Revision))
	if w := <-past; len(w.Events) != 2 {
		t.Errorf("a watch from the past heard of %v, %v", w.Events, w.Err())
	}
	if n := c.Revision(); n != 3 {
		t.Errorf("the revision is %d, not 3", n)
	}
}
