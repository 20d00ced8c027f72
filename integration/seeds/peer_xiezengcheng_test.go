package seeds

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
)

// xieRegister is the registration of xiezengcheng/grpc-etcd: a lease, a key bound to it, and a
// stream that keeps it alive.
type xieRegister struct {
	w       *world
	lease   clientv3.LeaseID
	cancel  context.CancelFunc
	renewed chan struct{} // closed when renewing has ended
}

// xieRegisterServer registers a server under its whole key, "/etcd/order-service-1".
func (w *world) xieRegisterServer(key, addr string, ttl time.Duration) *xieRegister {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w.t.Cleanup(cancel)
	lease, err := w.theirs.Grant(ctx, int64(ttl/time.Second))
	must(w.t, err)
	if _, err := w.theirs.Put(ctx, key, addr, clientv3.WithLease(lease.ID)); err != nil {
		w.t.Fatal(err)
	}
	answers, err := w.theirs.KeepAlive(ctx, lease.ID)
	must(w.t, err)
	r := &xieRegister{w: w, lease: lease.ID, cancel: cancel, renewed: make(chan struct{})}
	go func() {
		defer close(r.renewed)
		for range answers {
		}
	}()
	return r
}

// close revokes the lease.
func (r *xieRegister) close() {
	r.cancel()
	<-r.renewed
	r.w.revoke(r.lease)
}

// xieResolver resolves "etcd:///", whatever follows: all that begins with the scheme as a path,
// "/etcd", the value being the address.
func (w *world) xieResolver() resolver.Builder {
	return peerResolver{"etcd", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
		var known sync.Map // by key, as the original keeps them
		return followPrefix(ctx, w.theirs, "/"+target.URL.Scheme, func(events []*clientv3.Event) {
			for _, event := range events {
				if event.Type == clientv3.EventTypeDelete {
					known.Delete(string(event.Kv.Key))
				} else {
					known.Store(string(event.Kv.Key), string(event.Kv.Value))
				}
			}
			update(bare(values(&known)))
		})
	}}
}

func values(m *sync.Map) []string {
	all := map[string]bool{}
	m.Range(func(_, value any) bool {
		all[value.(string)] = true
		return true
	})
	return slices.Sorted(maps.Keys(all))
}
