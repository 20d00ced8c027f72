package registration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// leaves are the ways to leave in order. Each puts an entry under a key, and returns how it leaves.
var leaves = []struct {
	name string
	join func(w *world, key string, layout runtime.Layout) (leave func(context.Context) error)
}{
	{"Close", func(w *world, key string, layout runtime.Layout) func(context.Context) error {
		return w.register(key, addr(0), runtime.WithLayouts(layout)).Close
	}},
	{"Pause", func(w *world, key string, layout runtime.Layout) func(context.Context) error {
		return w.register(key, addr(0), runtime.WithLayouts(layout)).Pause
	}},
	{"Withdraw", func(w *world, key string, layout runtime.Layout) func(context.Context) error {
		s := w.server(key, layout)
		must(w.t, s.Announce(kit.Bounded(w.t, soon), addr(0)))
		return s.Withdraw
	}},
	{"loss of health", func(w *world, key string, layout runtime.Layout) func(context.Context) error {
		s := w.server(key, layout)
		h := health.NewServer()
		healthpb.RegisterHealthServer(s, h)
		must(w.t, s.Announce(kit.Bounded(w.t, soon), addr(0)))
		return func(context.Context) error {
			h.SetServingStatus("a.A", healthpb.HealthCheckResponse_NOT_SERVING)
			return nil
		}
	}},
	{"drain", func(w *world, key string, layout runtime.Layout) func(context.Context) error {
		s := w.server(key, layout)
		stop := serve(w.t, s, listen(w.t, "127.0.0.1:0"))
		registered(w.t, s)
		return func(context.Context) error { return stop() }
	}},
	{"Close of the registry", func(w *world, key string, layout runtime.Layout) func(context.Context) error {
		r := w.newRegistry(w.client)
		register(w.t, r, key, addr(0), runtime.WithLayouts(layout))
		return r.Close
	}},
}

// server returns a server of one service.
func (w *world) server(key string, layout runtime.Layout) *runtime.Server {
	s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
	s.Publish(&runtime.ServiceDesc{Name: "a.A", Key: key, Layout: layout})
	return s
}

// TestK3_LeavingIsMarked shows that an orderly leave writes the mark before the deletion.
func TestK3_LeavingIsMarked(t *testing.T) {
	w := newWorld(t, nil)
	for _, layout := range []struct {
		name   string
		layout runtime.Layout
		marks  bool
	}{
		{"endpoint_json", runtime.EndpointJSON, true}, {"kratos", runtime.Kratos, true}, {"kitex", runtime.Kitex, true}, {"plain", runtime.Plain, false},
	} {
		if testing.Short() && layout.marks && layout.layout != runtime.EndpointJSON {
			continue
		}
		for i, way := range leaves {
			t.Run(layout.name+" "+way.name, func(t *testing.T) {
				key := fmt.Sprintf("%s/%d", layout.name, i)
				leave := way.join(w.in(t), key, layout.layout)
				before := w.values(key)
				if len(before) != 1 {
					t.Fatalf("joined: %v", before)
				}
				ctx, cancel := context.WithTimeout(context.Background(), soon)
				defer cancel()
				events := w.etcd.Admin().Watch(ctx, key, clientv3.WithPrefix(), clientv3.WithCreatedNotify())
				<-events
				must(t, leave(ctx))
				puts := deleted(t, events)
				if !layout.marks {
					if len(puts) > 0 {
						t.Errorf("a layout that has no room for a mark was written before the deletion: %q", puts)
					}
					return
				}
				if len(puts) != 1 || !strings.Contains(puts[0], leavingMark) {
					t.Errorf("written before the deletion: %q, want one value with the mark", puts)
				}
			})
		}
	}
}

// deleted waits for a deletion, and returns the values that were put before.
func deleted(t *testing.T, events clientv3.WatchChan) (puts []string) {
	t.Helper()
	for answer := range events {
		for _, event := range answer.Events {
			if event.Type == clientv3.EventTypeDelete {
				return puts
			}
			puts = append(puts, string(event.Kv.Value))
		}
	}
	t.Fatal("nothing was deleted")
	return nil
}
