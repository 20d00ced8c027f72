package discovery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/leak"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
)

// stages are what a process does with a registry, in this order.
var stages = []string{"NewRegistry", "NewClient", "call", "Register", "Serve", "Watch", "Close"}

// aLife does all that a process may with a registry, and returns the errors by stage. Each stage ends with its context at the
// latest, or the test hangs. before is called before each, and bounds it.
func (w *world) aLife(t *testing.T, client *clientv3.Client, before func(stage string) (bound time.Duration)) map[string]error {
	t.Helper()
	errs := make(map[string]error)
	do := func(stage string, f func(context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), before(stage))
		defer cancel()
		errs[stage] = f(ctx)
	}
	before("NewRegistry")
	registry := kit.Registry(t, w.logs, client)
	before("NewClient")
	conn := dial(t, registry, greeterAt(key))
	do("call", func(ctx context.Context) error { _, err := call(ctx, conn); return err })
	do("Register", func(ctx context.Context) error {
		_, err := registry.Register(ctx, "registered", runtime.Endpoint{Addr: "10.0.0.1:1"})
		return err
	})
	server := newServer(registry, "served", runtime.WithDrainDelay(0))
	lis, served := kit.Listen(t), make(chan struct{})
	serving, stop := context.WithCancel(context.Background())
	defer stop()
	do("Serve", func(context.Context) error {
		within := kit.Bounded(t, soon)
		go func() {
			defer close(served)
			_ = server.Serve(serving, lis) // its error is that of the etcd client
		}()
		for ; ; time.Sleep(time.Millisecond) {
			all := server.Status()
			switch {
			case len(all) > 0 && all[0].State == runtime.StateRegistered:
				return nil
			case len(all) > 0 && strings.Contains(fmt.Sprint(all[0].Err), "the etcd client was closed"):
				return all[0].Err
			case within.Err() != nil:
				return fmt.Errorf("it neither serves nor says why: %+v", all)
			}
		}
	})
	do("Watch", func(ctx context.Context) error {
		for _, err := range registry.Watch(ctx, "watched") {
			return err
		}
		return context.Cause(ctx)
	})
	do("Close", registry.Close)
	stop()
	select {
	case <-served:
	case <-time.After(2 * soon):
		t.Fatal("Serve does not return")
	}
	return errs
}

// TestAClientIsClosedTooEarly closes the etcd client under a registry before each stage: what comes after says so.
func TestAClientIsClosedTooEarly(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.registerAll("a")
	for _, stage := range []string{"NewClient", "Serve"} {
		t.Run(stage, func(t *testing.T) {
			client := w.etcd.Client(t)
			bound := soon
			errs := w.aLife(t, client, func(before string) time.Duration {
				if before == stage {
					must(t, client.Close())
					bound = 3 * time.Second // some retry until their context ends
				}
				return bound
			})
			from := slices.Index(stages, stage)
			for i, s := range stages {
				closed := i >= from && i >= 2 && (s != "Close" || from > slices.Index(stages, "Register")) // else it has nothing to do
				if err := errs[s]; closed != strings.Contains(fmt.Sprint(err), "the etcd client was closed") || !closed && err != nil {
					t.Errorf("%s: %v", s, err)
				}
			}
		})
	}
}

// meddler delays the calls of a client, drops every second, or makes each twice.
type meddler struct {
	calls         atomic.Int64
	delay         time.Duration
	drops, double bool
}

var errDropped = errors.New("dropped")

func (m *meddler) do(ctx context.Context, f func() error) error {
	if m.drops && m.calls.Add(1)%2 == 1 {
		return errDropped
	}
	if m.delay > 0 {
		select {
		case <-time.After(m.delay):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	err := f()
	if m.double && err == nil {
		err = f()
	}
	return err
}

type (
	meddledKV struct {
		clientv3.KV
		m *meddler
	}
	meddledTxn struct {
		clientv3.Txn
		ctx context.Context
		m   *meddler
	}
	meddledLease struct {
		clientv3.Lease
		m *meddler
	}
	meddledWatcher struct {
		clientv3.Watcher
		m *meddler
	}
)

func (k meddledKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (resp *clientv3.GetResponse, err error) {
	err = k.m.do(ctx, func() (err error) { resp, err = k.KV.Get(ctx, key, opts...); return err })
	return resp, err
}

func (k meddledKV) Txn(ctx context.Context) clientv3.Txn { return &meddledTxn{k.KV.Txn(ctx), ctx, k.m} }

func (x *meddledTxn) If(cs ...clientv3.Cmp) clientv3.Txn   { x.Txn = x.Txn.If(cs...); return x }
func (x *meddledTxn) Then(ops ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Then(ops...); return x }
func (x *meddledTxn) Else(ops ...clientv3.Op) clientv3.Txn { x.Txn = x.Txn.Else(ops...); return x }

func (x *meddledTxn) Commit() (resp *clientv3.TxnResponse, err error) {
	err = x.m.do(x.ctx, func() error {
		again, err := x.Txn.Commit()
		if resp == nil {
			resp = again // the first answer: what is made twice is a copy that comes late
		}
		return err
	})
	return resp, err
}

func (l meddledLease) Grant(ctx context.Context, ttl int64) (resp *clientv3.LeaseGrantResponse, err error) {
	err = l.m.do(ctx, func() (err error) { resp, err = l.Lease.Grant(ctx, ttl); return err })
	return resp, err
}

func (l meddledLease) Revoke(ctx context.Context, id clientv3.LeaseID) (resp *clientv3.LeaseRevokeResponse, err error) {
	err = l.m.do(ctx, func() (err error) { resp, err = l.Lease.Revoke(ctx, id); return err })
	return resp, err
}

func (w meddledWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) (answers clientv3.WatchChan) {
	if w.m.do(ctx, func() error { answers = w.Watcher.Watch(ctx, key, opts...); return nil }) != nil {
		none := make(chan clientv3.WatchResponse)
		close(none)
		return none
	}
	return answers
}

// TestAClientThatMeddles has each part of the etcd client delay, drop or double calls: all works all the same.
func TestAClientThatMeddles(t *testing.T) {
	leak.Beside(t)
	w := newWorld(t, nil)
	w.registerAll("a")
	for part, put := range map[string]func(*clientv3.Client, *meddler){
		"KV":      func(c *clientv3.Client, m *meddler) { c.KV = meddledKV{c.KV, m} },
		"Lease":   func(c *clientv3.Client, m *meddler) { c.Lease = meddledLease{c.Lease, m} },
		"Watcher": func(c *clientv3.Client, m *meddler) { c.Watcher = meddledWatcher{c.Watcher, m} },
	} {
		for how, m := range map[string]*meddler{"delays": {delay: 200 * time.Millisecond}, "drops": {drops: true}, "doubles": {double: true}} {
			t.Run(part+" "+how, func(t *testing.T) {
				client := w.etcd.Client(t)
				put(client, m)
				for stage, err := range w.aLife(t, client, func(string) time.Duration { return soon }) {
					if err != nil && !errors.Is(err, errDropped) && !strings.Contains(err.Error(), errDropped.Error()) {
						t.Errorf("%s: %v", stage, err)
					}
				}
				kit.Eventually(t, soon, "nothing is left", func() bool {
					return w.count("registered")+w.count("served") == 0
				})
			})
		}
	}
}

// count returns how many keys begin with a prefix.
func (w *world) count(prefix string) int {
	resp, err := w.etcd.Admin().Get(kit.Bounded(w.t, soon), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(w.t, err)
	return int(resp.Count)
}
