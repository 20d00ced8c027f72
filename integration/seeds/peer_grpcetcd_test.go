package seeds

import (
	"context"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
)

// grpcEtcd is the grpcEtcd resolver with its registration: /grpcEtcd/<name>/<addr> holds the
// address, and a reader takes the address from the key.
type grpcEtcd struct {
	t      *testing.T
	client *clientv3.Client
}

const grpcEtcdScheme = "grpcEtcd"

// grpcEtcdResolverScheme is how gRPC knows the scheme since it parses targets as URLs.
var grpcEtcdResolverScheme = strings.ToLower(grpcEtcdScheme)

// newGrpcEtcd takes the addresses of etcd as that system does, in one string with ";" between.
func newGrpcEtcd(t *testing.T, endpoints string) *grpcEtcd {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: strings.Split(endpoints, ";"), DialTimeout: soon})
	must(t, err)
	t.Cleanup(func() { _ = client.Close() })
	return &grpcEtcd{t: t, client: client}
}

func grpcEtcdKey(name, addr string) string {
	return "/" + grpcEtcdScheme + "/" + name + "/" + addr
}

// grpcEtcdEntry is a registration that a ticker keeps up.
type grpcEtcdEntry struct {
	peer *grpcEtcd
	key  string
	stop func()
}

// register looks every ttl whether the key is there, and when it is not puts it on a new lease
// that is then kept alive.
func (p *grpcEtcd) register(name, addr string, ttl time.Duration) *grpcEtcdEntry {
	ctx, cancel := context.WithCancel(context.Background())
	e := &grpcEtcdEntry{peer: p, key: grpcEtcdKey(name, addr)}
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(ttl)
		defer ticker.Stop()
		for {
			found, err := p.client.Get(ctx, e.key)
			if err == nil && found.Count == 0 {
				err = p.putAlive(ctx, e.key, addr, ttl)
			}
			if err != nil && !ended(ctx, err) {
				p.t.Logf("grpcEtcd: register %s: %v", e.key, err)
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	})
	e.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	p.t.Cleanup(e.stop)
	return e
}

func (p *grpcEtcd) putAlive(ctx context.Context, key, addr string, ttl time.Duration) error {
	lease, err := p.client.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return err
	}
	if _, err := p.client.Put(ctx, key, addr, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	answers, err := p.client.KeepAlive(ctx, lease.ID)
	if err != nil {
		return err
	}
	go func() {
		for range answers {
		}
	}()
	return nil
}

// unregister deletes the key.
func (e *grpcEtcdEntry) unregister() {
	e.stop()
	if _, err := e.peer.client.Delete(bounded(e.peer.t), e.key); err != nil {
		e.peer.t.Errorf("grpcEtcd: unregister %s: %v", e.key, err)
	}
}

// unregisterOn unregisters once the process is signalled.
func (e *grpcEtcdEntry) unregisterOn(signals ...os.Signal) {
	told := make(chan os.Signal, 1)
	signal.Notify(told, signals...)
	done := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		select {
		case <-told:
			e.unregister()
		case <-done:
		}
	})
	e.peer.t.Cleanup(func() { signal.Stop(told); close(done); running.Wait() })
}

// resolver resolves grpcEtcd://<caller>/<callee>.
func (p *grpcEtcd) resolver() resolver.Builder {
	return peerResolver{grpcEtcdResolverScheme, func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
		known := map[string]bool{}
		prefix := grpcEtcdKey(target.Endpoint(), "")
		return followPrefix(ctx, p.client, prefix, func(events []*clientv3.Event) {
			for _, event := range events {
				addr := strings.TrimPrefix(string(event.Kv.Key), prefix)
				if event.Type == clientv3.EventTypeDelete {
					delete(known, addr)
				} else {
					known[addr] = true
				}
			}
			update(bare(slices.Sorted(maps.Keys(known))))
		})
	}}
}
