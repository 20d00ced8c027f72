package scenarios

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
)

const (
	// serviceKey is what most scenarios use.
	serviceKey = "bench/service"
	// txnSize is how many changes are made at once where their number is all that matters. etcd
	// takes 128 at the most.
	txnSize = 100
	// writers is how many changes are under way at a time when it is to be as many as etcd takes.
	writers = 32
)

// keyOf returns the key of the service i, where there are several.
func keyOf(i int) string { return serviceKey + strconv.Itoa(i) }

// style is how a peer keeps an endpoint.
type style func(i int) (key, value string)

// styleOf is the peer's for the service at key, whose endpoints are nobody's.
func styleOf(peer, service string) style { return styleAt(peer, service, addr) }

// styleAt is the peer's for the service at key: go-zero's own, and for all others that of etcd's
// naming package, which is this project's by default.
func styleAt(peer, service string, addr func(i int) string) style {
	if peer == peerGoZero {
		return func(i int) (key, value string) {
			return fmt.Sprintf("%s/%d", service, 7587870000000000000+i), addr(i)
		}
	}
	return func(i int) (key, value string) { return service + "/" + addr(i), namingValue(addr(i)) }
}

func namingValue(addr string) string { return `{"Op":0,"Addr":"` + addr + `","Metadata":null}` }

func addr(i int) string { return fmt.Sprintf("10.%d.%d.%d:9000", i>>16&255, i>>8&255, i&255) }

// server is an etcd of one member without anything between it and its clients, and without waiting
// for a disk.
type server struct {
	etcd   *embed.Etcd
	client *clientv3.Client
}

func startEtcd(dir string) (*server, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.UnsafeNoFsync = true
	cfg.LogLevel = "fatal"
	cfg.QuotaBackendBytes = 8 << 30
	local := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{local}, []url.URL{local}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{local}, []url.URL{local}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	etcd, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	<-etcd.Server.ReadyNotify()
	client, err := newClient(etcd.Clients[0].Addr().String())
	if err != nil {
		etcd.Close()
		return nil, err
	}
	return &server{etcd, client}, nil
}

// newClient returns a client for what is not measured.
func newClient(endpoint string) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

func (s *server) endpoints() []string { return s.client.Endpoints() }

func (s *server) close() {
	s.client.Close()
	s.etcd.Close()
}

// clear removes everything that a run has left.
func (s *server) clear(ctx context.Context) error {
	_, err := s.client.Delete(ctx, "\x00", clientv3.WithFromKey())
	return err
}

// putAll puts the endpoints from the index from up to to.
func putAll(ctx context.Context, client *clientv3.Client, style style, from, to int) error {
	for from < to {
		var ops []clientv3.Op
		for ; from < to && len(ops) < txnSize; from++ {
			key, value := style(from)
			ops = append(ops, clientv3.OpPut(key, value))
		}
		if _, err := client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// rollout replaces size endpoints, from index 0, one by one: a new one comes, then an old one goes.
// pace is the time from one change to the next; 0 is as fast as etcd goes.
func (s *server) rollout(ctx context.Context, style style, size, replaced int, pace time.Duration) error {
	var next atomic.Int64
	began := time.Now()
	replace := func(ctx context.Context) error {
		for {
			i := int(next.Add(1)) - 1
			if i >= replaced {
				return nil
			}
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
	}
	g, ctx := errgroup.WithContext(ctx)
	n := writers
	if pace > 0 {
		n = 1
	}
	for range n {
		g.Go(func() error { return replace(ctx) })
	}
	return g.Wait()
}
