package bench

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

const (
	// serviceKey is the key of most scenarios.
	serviceKey = "bench/service"

	// txnSize is the number of puts in one transaction. etcd accepts at most 128.
	txnSize = 100

	// writers is the number of concurrent writers when changes are made at full
	// speed.
	writers = 32
)

// style is a peer's format of an endpoint.
type style func(i int) (key, value string)

// styleOf returns the peer's style for a service, with addresses at which
// nothing listens.
func styleOf(peer, service string) style {
	return styleAt(peer, service, func(i int) string {
		return fmt.Sprintf("10.%d.%d.%d:9000", i>>16&255, i>>8&255, i&255)
	})
}

// styleAt returns the peer's style for a service, with given addresses:
// go-zero's own format or, for all other peers, that of etcd's naming package,
// which is this project's default.
func styleAt(peer, service string, addr func(i int) string) style {
	return func(i int) (key, value string) {
		if peer == peerGoZero {
			return fmt.Sprintf("%s/%d", service, 7587870000000000000+i), addr(i)
		}

		value = `{"Op":0,"Addr":"` + addr(i) + `","Metadata":null}`

		return service + "/" + addr(i), value
	}
}

// server is an etcd of one member without fsync.
type server struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	received
}

func startEtcd(dir string) (*server, error) {
	s := &server{}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "fatal"
	cfg.QuotaBackendBytes = 8 << 30
	cfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.StatsHandler(&s.received)}

	local := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	cfg.ListenClientUrls = local
	cfg.AdvertiseClientUrls = local
	cfg.ListenPeerUrls = local
	cfg.AdvertisePeerUrls = local
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)

	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}

	<-etcd.Server.ReadyNotify()
	s.etcd = etcd

	s.client, err = clientv3.New(clientv3.Config{
		Endpoints:   []string{etcd.Clients[0].Addr().String()},
		DialTimeout: 5 * time.Second,
		Logger:      zap.NewNop(),
	})
	if err != nil {
		etcd.Close()
		return nil, err
	}

	return s, nil
}

func (s *server) close() {
	s.client.Close()
	s.etcd.Close()
}

// clear deletes all keys.
func (s *server) clear() error {
	_, err := s.client.Delete(s.client.Ctx(), "\x00", clientv3.WithFromKey())
	return err
}

// putAll puts the endpoints with indexes in [first, end).
func (s *server) putAll(style style, first, end int) error {
	for first < end {
		var ops []clientv3.Op
		for ; first < end && len(ops) < txnSize; first++ {
			key, value := style(first)
			ops = append(ops, clientv3.OpPut(key, value))
		}

		if _, err := s.client.Txn(s.client.Ctx()).Then(ops...).Commit(); err != nil {
			return err
		}
	}

	return nil
}

// rollout replaces each endpoint i below replaced: it adds the endpoint size+i,
// and then deletes i. pace is the time between changes, one after the other; 0
// means as fast as etcd accepts them from several writers.
func (s *server) rollout(style style, size, replaced int, pace time.Duration) error {
	began := time.Now()
	g, ctx := errgroup.WithContext(s.client.Ctx())

	n := writers
	if pace > 0 {
		n = 1
	}

	for first := range n {
		g.Go(func() error {
			for i := first; i < replaced; i += n {
				time.Sleep(time.Until(began.Add(time.Duration(2*i) * pace)))

				key, value := style(size + i)
				if _, err := s.client.Put(ctx, key, value); err != nil {
					return err
				}

				time.Sleep(time.Until(began.Add(time.Duration(2*i+1) * pace)))

				key, _ = style(i)
				if _, err := s.client.Delete(ctx, key); err != nil {
					return err
				}
			}

			return nil
		})
	}

	return g.Wait()
}

// makeChange makes the change with an index to a service of size endpoints: a
// change with an even index adds an endpoint, and the next one removes it.
func makeChange(client *clientv3.Client, style style, size, index int) (err error) {
	key, value := style(size)
	if index%2 == 0 {
		_, err = client.Put(client.Ctx(), key, value)
	} else {
		_, err = client.Delete(client.Ctx(), key)
	}

	return err
}

// received counts the messages that an etcd receives, and the lists and watches
// of services.
type received struct{ messages, lists, watches atomic.Int64 }

func (r *received) HandleRPC(_ context.Context, s stats.RPCStats) {
	in, ok := s.(*stats.InPayload)
	if !ok {
		return
	}

	r.messages.Add(1)

	switch m := in.Payload.(type) {
	case *etcdserverpb.RangeRequest:
		// Each page of a list after the first begins at a key that ends in a
		// zero byte.
		first := !bytes.HasSuffix(m.Key, []byte{0})
		if first && bytes.HasPrefix(m.Key, []byte(serviceKey)) {
			r.lists.Add(1)
		}

	case *etcdserverpb.WatchRequest:
		if bytes.HasPrefix(m.GetCreateRequest().GetKey(), []byte(serviceKey)) {
			r.watches.Add(1)
		}
	}
}

func (*received) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return ctx
}

func (*received) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return ctx
}

func (*received) HandleConn(context.Context, stats.ConnStats) {}
