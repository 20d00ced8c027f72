package seeds

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
)

// suffixEntry is a registration of the lease-suffix registry: <service><lease id> holds host:port.
type suffixEntry struct {
	w             *world
	service, addr string
	stopLoop      func()

	mu    sync.Mutex
	lease clientv3.LeaseID
}

// suffixRegister registers and starts the loop that each second renews the lease; when that fails
// it grants a new one and puts again, so under another key.
func (w *world) suffixRegister(service, addr string, ttl time.Duration) *suffixEntry {
	w.t.Helper()
	e := &suffixEntry{w: w, service: service, addr: addr}
	must(w.t, e.put(bounded(w.t), ttl))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { e.loop(ctx, ttl) })
	e.stopLoop = sync.OnceFunc(func() { cancel(); running.Wait() })
	w.t.Cleanup(e.stopLoop)
	return e
}

func (e *suffixEntry) loop(ctx context.Context, ttl time.Duration) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if _, err := e.w.theirs.KeepAliveOnce(ctx, e.leaseID()); err == nil {
			continue
		}
		if err := e.put(ctx, ttl); err != nil && !ended(ctx, err) {
			e.w.t.Logf("lease suffix: register %s again: %v", e.service, err)
		}
	}
}

func (e *suffixEntry) put(ctx context.Context, ttl time.Duration) error {
	lease, err := e.w.theirs.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return err
	}
	if _, err := e.w.theirs.Put(ctx, suffixKey(e.service, lease.ID), e.addr, clientv3.WithLease(lease.ID)); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lease = lease.ID
	return nil
}

func suffixKey(service string, lease clientv3.LeaseID) string {
	return service + strconv.FormatInt(int64(lease), 10)
}

func (e *suffixEntry) leaseID() clientv3.LeaseID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lease
}

// crash ends the loop and leaves the key to its lease.
func (e *suffixEntry) crash() { e.stopLoop() }

// unregister ends the loop and revokes the lease.
func (e *suffixEntry) unregister() {
	e.stopLoop()
	e.w.revoke(e.leaseID())
}

// suffixGateway is the gateway of that system: it lists what begins with the name of a service,
// then applies puts and deletes.
type suffixGateway struct {
	mu    sync.Mutex
	addrs map[string]string // by key
}

func newSuffixGateway() *suffixGateway { return &suffixGateway{addrs: map[string]string{}} }

func (w *world) suffixGateway(service string) *suffixGateway {
	g := newSuffixGateway()
	w.follow(func(ctx context.Context) {
		err := followPrefix(ctx, w.theirs, service, g.apply)
		if !ended(ctx, err) {
			w.t.Errorf("lease suffix: the gateway's watch of %s: %v", service, err)
		}
	})
	return g
}

func (g *suffixGateway) apply(events []*clientv3.Event) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, event := range events {
		if event.Type == clientv3.EventTypeDelete {
			delete(g.addrs, string(event.Kv.Key))
		} else {
			g.addrs[string(event.Kv.Key)] = string(event.Kv.Value)
		}
	}
}

// list returns the addresses to send requests to, sorted.
func (g *suffixGateway) list() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Compact(slices.Sorted(maps.Values(g.addrs)))
}

// suffixResolver is how a service of that system finds the others: by the same list and watch.
func (w *world) suffixResolver() resolver.Builder {
	return peerResolver{"suffix", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
		g := newSuffixGateway()
		return followPrefix(ctx, w.theirs, target.Endpoint(), func(events []*clientv3.Event) {
			g.apply(events)
			update(bare(g.list()))
		})
	}}
}
