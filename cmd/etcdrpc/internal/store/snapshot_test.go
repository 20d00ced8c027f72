package store

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/etcdtest"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

func put(t *testing.T, etcd *etcdtest.Cluster, keys ...string) {
	t.Helper()
	for _, key := range keys {
		_, err := etcd.Admin().Put(t.Context(), key, "10.0.0.7:9000")
		must.Succeed(t, err)
	}
}

// TestFollow checks that Follow reports changes, outages, and changes made during an outage.
func TestFollow(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	s, err := Open(etcd.Config(), output.Commands{}, testTimeout)
	must.Succeed(t, err)
	defer s.Close()
	counts, away := make(chan int, 100), make(chan struct{}, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cut atomic.Bool // makes the next read fail, because the watch of a client that is cut off only waits
	go s.Follow(ctx, func(ctx context.Context) (*Snapshot, error) {
		if cut.CompareAndSwap(true, false) {
			etcd.Cut()
		}
		return s.Under(ctx, "acme/")
	}, func(n *Snapshot, err error) {
		if err != nil {
			away <- struct{}{}
			return
		}
		total := 0
		for _, found := range n.Services {
			total += len(found.Instances)
		}
		counts <- total
	})
	await := func(want int) {
		t.Helper()
		for timeout := time.After(testTimeout); ; {
			select {
			case got := <-counts:
				if got == want {
					return
				}
			case <-timeout:
				t.Fatalf("the snapshot does not get %d instances", want)
			}
		}
	}
	await(0)
	put(t, etcd, "acme/user/10.0.0.7:9000", "acme/order/10.0.0.7:9000", "other/user/10.0.0.7:9000")
	await(2)
	cut.Store(true)
	_, err = etcd.Admin().Delete(t.Context(), "acme/user/10.0.0.7:9000")
	must.Succeed(t, err)
	select {
	case <-away:
	case <-time.After(testTimeout):
		t.Fatal("the outage of etcd is not reported")
	}
	put(t, etcd, "acme/mail/10.0.0.7:9000", "acme/cart/10.0.0.7:9000")
	etcd.Restore()
	await(3)
}

// changing is a watcher that always reports changes or, if quiet, never.
type changing struct {
	clientv3.Watcher
	quiet bool
}

func (c changing) Watch(ctx context.Context, _ string, _ ...clientv3.OpOption) clientv3.WatchChan {
	events := make(chan clientv3.WatchResponse, 1)
	if !c.quiet {
		events <- clientv3.WatchResponse{Events: []*clientv3.Event{{}}}
	}
	go func() { <-ctx.Done(); close(events) }()
	return events
}

// TestFollow_Floor checks the time between reads: a second for a changing range and after a failure, ten seconds for a quiet range,
// and between them for one that takes long to read.
func TestFollow_Floor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		quiet bool
		err   error
		took  time.Duration
		limit int // of reads in a minute
	}{
		{"changing", false, nil, 0, 60}, {"quiet", true, nil, 0, 6}, {"failing", false, errors.New("etcd is away"), 0, 60},
		{"large", false, nil, 100 * time.Millisecond, 30}, {"larger", false, nil, 2 * time.Second, 6},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Nanosecond)
			defer cancel()
			reads := 0
			(&Store{watcher: changing{quiet: tt.quiet}}).Follow(ctx, func(context.Context) (*Snapshot, error) {
				reads++
				time.Sleep(tt.took)
				return &Snapshot{parts: []listwatch.Range{listwatch.Prefix("")}}, tt.err
			}, func(*Snapshot, error) {})
			if reads < tt.limit*9/10 || reads > tt.limit {
				t.Errorf("%s: %d reads in a minute, want %d to %d", tt.name, reads, tt.limit*9/10, tt.limit)
			}
		})
	}
}

// hookedKV calls a hook before each read except the first.
type hookedKV struct {
	clientv3.KV
	reads int
	hook  func()
}

func (h *hookedKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	if h.reads++; h.reads > 1 {
		h.hook()
	}
	return h.KV.Get(ctx, key, opts...)
}

// TestAt_OneRevision changes etcd between the reads of a snapshot, which must show all of the change or none.
func TestAt_OneRevision(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	put(t, etcd, "acme/user/a")
	s, err := Open(etcd.Config(), output.Commands{}, testTimeout)
	must.Succeed(t, err)
	defer s.Close()
	kv := &hookedKV{KV: s.kv.KV}
	kv.hook = func() { put(t, etcd, "acme/user/b", "_grpc_config/acme/user") }
	s.kv.KV = kv
	n, err := s.At(t.Context(), "acme/user")
	if err != nil || len(n.Services[0].Instances) != 1 || n.Services[0].Config != nil {
		t.Errorf("At() during a change = %+v, %v, want the state before the change", n, err)
	}
}
