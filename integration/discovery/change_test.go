package discovery

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
)

// cutter is a Watcher whose watches end right after the second answer with events, once.
type cutter struct {
	clientv3.Watcher
	done atomic.Bool
}

func (c *cutter) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	in := c.Watcher.Watch(ctx, key, opts...)
	if strings.HasPrefix(key, "_grpc_config") || c.done.Load() {
		return in
	}
	out := make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		changes := 0
		for resp := range in {
			select {
			case out <- resp:
			case <-ctx.Done():
				return
			}
			if len(resp.Events) > 0 {
				changes++
			}
			if changes == 2 {
				c.done.Store(true)
				return
			}
		}
	}()
	return out
}

// TestChangeJustBeforeTheWatchBreaks hears a change while an earlier one is just being published, and
// then no more from that watch: the change must not be lost, though the next list shows it as known.
func TestChangeJustBeforeTheWatchBreaks(t *testing.T) {
	w := newWorld(t, nil)
	w.client.Watcher = &cutter{Watcher: w.client.Watcher}
	w.registry = w.newRegistry(w.client) // which takes a client as it is by then
	changes := w.watch(key)
	if set := <-changes; len(set) != 0 {
		t.Fatalf("the first set is %v", set)
	}
	w.put(key+"/a", "10.0.0.1:1")
	w.put(key+"/b", "10.0.0.2:1")
	seen := 0
	kit.Eventually(t, soon, "both are seen", func() bool {
		select {
		case set := <-changes:
			seen = len(set)
		default:
		}
		return seen == 2
	})
}

// TestLiveConfigDeletedWhileIdle has gRPC go by the generated config again, which it would not by
// itself: it keeps the last one through idleness.
func TestLiveConfigDeletedWhileIdle(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.register(w.serve("a"))
	conn := w.conn(grpc.WithIdleTimeout(200 * time.Millisecond))
	if err := w.registry.SetServiceConfig(kit.Bounded(t, soon), key, `{"methodConfig":[{"name":[{}],"timeout":"0.3s"}]}`); err != nil {
		t.Fatal(err)
	}
	timesOut := func() bool {
		ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "block", "1"), 2*time.Second)
		defer cancel()
		start := time.Now()
		_, _ = call(ctx, conn) // ends by one timeout or the other
		return time.Since(start) < time.Second
	}
	kit.Eventually(t, 2*soon, "the live config is in force", timesOut)
	kit.Eventually(t, soon, "the connection is idle", func() bool { return conn.GetState() == connectivity.Idle })
	if err := w.registry.SetServiceConfig(kit.Bounded(t, soon), key, ""); err != nil {
		t.Fatal(err)
	}
	kit.Eventually(t, 4*soon, "the live config is no longer in force", func() bool { return !timesOut() })
}

// TestResolverAmongTheOptions does not replace the client's own resolver, which knows the authority.
func TestResolverAmongTheOptions(t *testing.T) {
	w := newWorld(t, nil)
	s := w.register(w.serve("a"))
	desc := basic.Greeter_EtcdServiceDesc
	desc.Authority = "greeter.example"
	conn, err := w.registry.NewClient(&desc, grpc.WithResolvers(w.registry.Resolver()), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	reached(t, conn, soon, "a")
	if got := s.authority.Load(); got != "greeter.example" {
		t.Errorf("the server saw the authority %v", got)
	}
}
