package registration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/report"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/testdata/basic"
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

// latest watches a key by another registry, and returns a function that returns the number of its endpoints.
func (w *world) latest(key string) func() int {
	w.t.Helper()
	caller := w.newRegistry(w.etcd.Client(w.t))
	var mu sync.Mutex
	n := -1
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		for set, err := range caller.Watch(ctx, key) {
			if err == nil {
				mu.Lock()
				n = len(set)
				mu.Unlock()
			}
		}
	})
	w.t.Cleanup(func() {
		cancel()
		watching.Wait()
	})
	return func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// TestK3_ASoleInstanceThatLeavesIsNotHeld shows that callers forget it at once, not after the grace.
func TestK3_ASoleInstanceThatLeavesIsNotHeld(t *testing.T) {
	w := newWorld(t, nil)
	for i, way := range leaves {
		t.Run(way.name, func(t *testing.T) {
			key := fmt.Sprintf("held/%d", i)
			w := w.in(t)
			leave := way.join(w, key, runtime.EndpointJSON)
			n := w.latest(key)
			kit.Eventually(t, soon, "seen", func() bool { return n() == 1 })
			start := time.Now()
			must(t, leave(kit.Bounded(t, soon)))
			kit.Eventually(t, soon, "forgotten", func() bool { return n() == 0 })
			report.Took(t, "K3", "forgotten after it left in order", time.Since(start))
			within(t, time.Since(start), backSoon, "to be forgotten")
		})
	}
}

// A server comes back at another address: callers wait neither for the old one nor for the grace.
func TestK3_AServerComesBackElsewhere(t *testing.T) {
	w := newWorld(t, nil)
	run := func(name string) func() error {
		s := w.registry.NewServer(grpc.NewServer(), runtime.WithDrainDelay(0))
		basic.RegisterGreeterServerToEtcd(s, &greeter{name: name})
		stop := serve(t, s, listen(t, "127.0.0.1:0"))
		registered(t, s)
		return stop
	}
	stop := run("first")
	client, err := basic.NewGreeterClientFromEtcd(w.newRegistry(w.etcd.Client(t)), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	reached := func(name string) func() bool {
		return func() bool {
			reply, err := client.SayHello(kit.Bounded(t, soon), &basic.HelloRequest{})
			return err == nil && reply.Message == name
		}
	}
	kit.Eventually(t, soon, "reached", reached("first"))
	must(t, stop())
	kit.Eventually(t, backSoon, "calls fail at once, naming the key", func() bool {
		_, err := client.SayHello(kit.Bounded(t, soon), &basic.HelloRequest{})
		return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), key)
	})
	run("second")
	took := kit.Eventually(t, soon, "reached elsewhere", reached("second"))
	report.Took(t, "K3", "a server that drained reached at its new address after", took)
	within(t, took, backSoon, "to be reached")
}

// mortal is a client whose connection is closed when it is to delete something.
type mortal struct {
	clientv3.KV
	clientv3.Lease
	client *clientv3.Client
}

func (m *mortal) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if deletes(op) {
		return clientv3.OpResponse{}, m.die()
	}
	return m.KV.Do(ctx, op)
}

func (m *mortal) Delete(context.Context, string, ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	return nil, m.die()
}

func (m *mortal) Txn(ctx context.Context) clientv3.Txn {
	return &mortalTxn{Txn: m.KV.Txn(ctx), client: m}
}

func (m *mortal) Revoke(context.Context, clientv3.LeaseID) (*clientv3.LeaseRevokeResponse, error) {
	return nil, m.die()
}

func (m *mortal) Close() error { return m.Lease.Close() }

func (m *mortal) die() error {
	return errors.Join(errors.New("the process has died"), m.client.ActiveConnection().Close())
}

type mortalTxn struct {
	clientv3.Txn
	client *mortal
	dies   bool
}

func (x *mortalTxn) If(cmps ...clientv3.Cmp) clientv3.Txn {
	x.Txn = x.Txn.If(cmps...)
	return x
}

func (x *mortalTxn) Then(ops ...clientv3.Op) clientv3.Txn { return x.branch(ops, x.Txn.Then) }

func (x *mortalTxn) Else(ops ...clientv3.Op) clientv3.Txn { return x.branch(ops, x.Txn.Else) }

func (x *mortalTxn) branch(ops []clientv3.Op, add func(...clientv3.Op) clientv3.Txn) clientv3.Txn {
	for _, op := range ops {
		x.dies = x.dies || deletes(op)
	}
	x.Txn = add(ops...)
	return x
}

func (x *mortalTxn) Commit() (*clientv3.TxnResponse, error) {
	if x.dies {
		return nil, x.client.die()
	}
	return x.Txn.Commit()
}

// deletes reports whether an op deletes a key.
func deletes(op clientv3.Op) bool { return anyOp(op, clientv3.Op.IsDelete) }

// TestK3_DeathBetweenMarkAndDelete has a process die while it leaves. Nobody calls the entry that is left, and it
// goes with its lease.
func TestK3_DeathBetweenMarkAndDelete(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	client := w.etcd.Client(t)
	m := &mortal{KV: client.KV, Lease: client.Lease, client: client}
	client.KV, client.Lease = m, m
	const ttl = 3 * time.Second
	g := register(t, w.newRegistry(client, runtime.WithLeaseTTL(ttl)), key, addr(0))
	n := w.latest(key)
	kit.Eventually(t, soon, "seen", func() bool { return n() == 1 })
	start := time.Now()
	if err := g.Close(kit.Bounded(t, time.Second)); err == nil {
		t.Error("Close succeeded without a deletion")
	}
	got := w.get(entry)
	if got == nil || !strings.Contains(got.value, leavingMark) {
		t.Errorf("left behind: %+v, want it marked", got)
	}
	kit.Eventually(t, soon, "nobody calls it", func() bool { return n() == 0 })
	if w.get(entry) == nil {
		t.Error("callers forgot it only when its lease expired")
	}
	kit.Eventually(t, soon, "gone with its lease", func() bool { return w.get(entry) == nil })
	report.Took(t, "K3", "what a process that died after its mark left gone, with a TTL of 3 s", time.Since(start))
	within(t, time.Since(start), ttl+5*time.Second, "to expire")
}
