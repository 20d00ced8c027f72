package leader

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	leaderpb "github.com/etcdrpc/protoc-gen-go-etcd/testdata/leader"
)

// stuckKV answers no read of candidates before it is let go, whatever becomes of the context.
type stuckKV struct {
	clientv3.KV
	asked, held chan struct{}
}

func (k stuckKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if strings.Contains(key, candidates) {
		select {
		case k.asked <- struct{}{}:
		default:
		}
		<-k.held
	}
	return k.KV.Get(ctx, key, opts...)
}

// closes closes a registry within two seconds, and fails the test unless that returns soon.
func closes(t *testing.T, r *runtime.Registry) {
	t.Helper()
	closed := make(chan error, 1)
	go func() { closed <- r.Close(kit.Bounded(t, 2*time.Second)) }()
	select {
	case err := <-closed:
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
	case <-time.After(soon):
		t.Error("Close does not return with its context")
	}
}

// A wrapper of the etcd client that does not heed contexts does not hold Close, and the entry is out all the same.
func TestCloseBesideAReadThatHangs(t *testing.T) {
	g := newGroup(t)
	kv := stuckKV{asked: make(chan struct{}, 1), held: make(chan struct{})}
	t.Cleanup(func() { close(kv.held) })
	g.parts = func() *clientv3.Client {
		client := etcd.Client(t)
		kv.KV = client.KV
		client.KV = kv
		return client
	}
	a := g.start("a")
	await(t, kv.asked)
	closes(t, a.registry)
	left, err := etcd.Admin().Get(t.Context(), g.namespace+entries, clientv3.WithPrefix())
	must(t, err)
	if len(left.Kvs) > 0 {
		t.Errorf("%d entries are left", len(left.Kvs))
	}
}

// handler calls a function with each line that says that an instance does not stand.
type handler struct {
	slog.Handler
	call func()
}

func (h handler) Handle(ctx context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "does not stand") {
		h.call()
	}
	return h.Handler.Handle(ctx, r)
}

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.call}
}

// A log handler may hang, or close the registry that it logs for.
func TestCloseBesideALogHandler(t *testing.T) {
	for name, call := range map[string]func(t *testing.T, r *runtime.Registry, held chan struct{}){
		"that hangs":            func(_ *testing.T, _ *runtime.Registry, held chan struct{}) { <-held },
		"that closes by itself": func(t *testing.T, r *runtime.Registry, _ chan struct{}) { closes(t, r) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			called, held := make(chan struct{}, 1), make(chan struct{})
			t.Cleanup(func() { close(held) })
			var registry atomic.Pointer[runtime.Registry]
			logger := slog.New(handler{slog.NewTextHandler(&g.logs, nil), func() {
				called <- struct{}{}
				call(t, registry.Load(), held)
			}})
			r := runtime.NewRegistry(etcd.Client(t), runtime.WithNamespace(g.namespace), runtime.WithLogger(logger))
			registry.Store(r)
			a := g.start("a", on(r))
			g.start("b")
			kit.Eventually(t, soon, "a to lead", a.leads.Holds)
			g.configure(`{"loadBalancingConfig":[{"etcd":{"drain":["a"]}}]}`)
			await(t, called)
			closes(t, r)
		})
	}
}

// configure puts the live config of the service.
func (g *group) configure(config string) {
	g.t.Helper()
	_, err := etcd.Admin().Put(g.t.Context(), g.namespace+"_grpc_config/"+entries, config)
	must(g.t, err)
}

// A leader resigns for a drain that callers follow. A config that names policies is one, where callers link these: servers need not.
func TestADrainThatCallersIgnore(t *testing.T) {
	for name, drain := range map[string]struct {
		config  string
		ignored func(runtime.KeyStatus) bool
		follow  func(g *group) // lets callers follow it, or one like it
	}{
		"it is not in force": {
			`{"loadBalancingConfig":[{"etcd":{"drain":["a"],"childPolicy":[{"not_a_policy":{}}]}}]}`,
			func(key runtime.KeyStatus) bool { return key.ConfigErr != nil },
			func(g *group) {
				g.configure(`{"loadBalancingConfig":[{"outlier_detection_experimental":{"failurePercentageEjection":{},` +
					`"childPolicy":[{"etcd":{"drain":["a"],"childPolicy":[{"weighted_round_robin":{}}]}}]}}]}`)
			},
		},
		"too few are left": {
			`{"loadBalancingConfig":[{"etcd":{"drain":["a"],"minHealthyPercent":60}}]}`,
			func(key runtime.KeyStatus) bool { return key.ServiceConfig != "" && len(key.Endpoints) == 2 },
			func(g *group) { g.start("c") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t)
			a, b := g.start("a"), g.start("b")
			kit.Eventually(t, soon, "a to lead", a.leads.Holds)
			followed, err := a.registry.Follow(&leaderpb.Counter_EtcdServiceDesc, func() {}) // so that the status tells of the key
			must(t, err)
			defer followed.Stop()
			g.configure(drain.config)
			kit.Eventually(t, soon, "the status to tell of the config", func() bool {
				keys := a.registry.Status().Keys
				return len(keys) == 1 && drain.ignored(keys[0])
			})
			if !a.leads.Holds() || b.leads.Holds() {
				t.Error("a has resigned for a drain that callers ignore")
			}
			drain.follow(g)
			kit.Eventually(t, soon, "b to lead", b.leads.Holds)
		})
	}
}
