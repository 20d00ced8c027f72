package store

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
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

// TestFollow checks that Follow reports changes, an outage and, after the
// outage, the data of the restored etcd. The etcd has passwords.
func TestFollow(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t, etcdtest.WithAuth("secret"))
	put(t, etcd, "acme/mail/10.0.0.7:9000")
	backup, err := etcd.Backup()
	must.Succeed(t, err)

	// These writes raise the log index at which the client logs in. The
	// restored etcd does not answer requests with the old token before it
	// reaches that index.
	put(t, etcd, slices.Repeat([]string{"other"}, 50)...)
	s, err := Open(etcd.Config(), output.Commands{}, time.Second)
	must.Succeed(t, err)

	defer s.Close()

	const outage = -1

	counts := make(chan int, 100)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	go s.Follow(ctx, func(ctx context.Context) (*Snapshot, error) {
		return s.Under(ctx, "acme/")
	}, func(n *Snapshot, err error) {
		count := outage
		if err == nil {
			count = len(inventory.Entries(n.Services))
		}

		counts <- count
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
				t.Fatalf("Follow does not report %d instances", want)
			}
		}
	}

	await(1)
	put(t, etcd, "acme/user/10.0.0.7:9000", "acme/order/10.0.0.7:9000", "other/user/10.0.0.7:9000")
	await(3)
	etcd.Stop()
	await(outage)
	must.Succeed(t, etcd.RestoreBackup(backup))
	await(1)
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

	go func() {
		<-ctx.Done()
		close(events)
	}()

	return events
}

// TestFollow_Floor checks the time between reads: a second for a changing range
// and after a failure, ten seconds for a quiet range, and between them for one
// that takes long to read.
func TestFollow_Floor(t *testing.T) {
	t.Parallel()

	for _, tt := range []struct {
		name  string
		quiet bool
		err   error
		took  time.Duration
		limit int // of reads in a minute
	}{
		{"changing", false, nil, 0, 60}, {"quiet", true, nil, 0, 6}, {"failing", false,
			errors.New("etcd is away"), 0, 60},
		{"large", false, nil, 100 * time.Millisecond, 30}, {"larger", false, nil, 2 * time.Second,
			6},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute-time.Nanosecond)
			defer cancel()

			reads := 0
			(&Store{
				watcher: changing{quiet: tt.quiet},
			}).Follow(ctx, func(context.Context) (*Snapshot, error) {
				reads++
				time.Sleep(tt.took)

				return &Snapshot{parts: []listwatch.Range{listwatch.Prefix("")}}, tt.err
			}, func(*Snapshot, error) {})

			if reads < tt.limit*9/10 || reads > tt.limit {
				t.Errorf("%s: %d reads in a minute, want %d to %d", tt.name, reads, tt.limit*9/10,
					tt.limit)
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

func (h *hookedKV) Get(
	ctx context.Context,
	key string,
	opts ...clientv3.OpOption,
) (*clientv3.GetResponse, error) {
	h.reads++
	if h.reads > 1 {
		h.hook()
	}

	return h.KV.Get(ctx, key, opts...)
}

// TestAt_OneRevision changes etcd between the reads of a snapshot, which must
// show all of the change or none.
func TestAt_OneRevision(t *testing.T) {
	t.Parallel()
	etcd := etcdtest.Start(t)
	put(t, etcd, "acme/user/a")
	s, err := Open(etcd.Config(), output.Commands{}, testTimeout)
	must.Succeed(t, err)

	defer s.Close()

	s.kv.KV = &hookedKV{KV: s.kv.KV, hook: func() {
		put(t, etcd, "acme/user/b", "_grpc_config/acme/user")
	}}

	n, err := s.At(t.Context(), "acme/user")
	if err != nil || len(n.Services[0].Instances) != 1 || n.Services[0].Config != nil {
		t.Errorf("At() during a change = %+v, %v, want the state before the change", n, err)
	}
}
