package seeds

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
)

// kitexInstance is what kitex' registry-etcd keeps of a server.
type kitexInstance struct {
	Network string            `json:"network"`
	Address string            `json:"address"`
	Weight  int               `json:"weight"`
	Tags    map[string]string `json:"tags"`
}

// kitexRegistry is kitex' registry-etcd: kitex/registry-etcd/<service>/<host:port> holds the
// instance.
type kitexRegistry struct {
	w      *world
	prefix string
}

func (w *world) kitex() kitexRegistry { return kitexRegistry{w, "kitex/registry-etcd"} }

// kitexEntry is a registration.
type kitexEntry struct {
	registry kitexRegistry
	lease    clientv3.LeaseID
	key      string
	stop     func()
}

// register puts an instance on a lease and keeps that alive.
func (r kitexRegistry) register(service string, instance kitexInstance, ttl time.Duration) *kitexEntry {
	r.w.t.Helper()
	value, err := json.Marshal(instance)
	if err != nil {
		r.w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	lease, err := r.w.theirs.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		r.w.t.Fatal(err)
	}
	e := &kitexEntry{registry: r, lease: lease.ID, key: r.prefix + "/" + service + "/" + instance.Address}
	if _, err := r.w.theirs.Put(ctx, e.key, string(value), clientv3.WithLease(lease.ID)); err != nil {
		r.w.t.Fatal(err)
	}
	answers, err := r.w.theirs.KeepAlive(ctx, lease.ID)
	if err != nil {
		r.w.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for range answers {
		}
	})
	e.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	r.w.t.Cleanup(e.stop)
	return e
}

// deregister deletes the key.
func (e *kitexEntry) deregister() {
	e.stop()
	e.registry.w.delete(e.key)
}

// resolve lists a service. A value that does not parse is passed over. A weight below 1 becomes 10.
func (r kitexRegistry) resolve(ctx context.Context, service string) ([]kitexInstance, error) {
	response, err := r.w.theirs.Get(ctx, r.prefix+"/"+service+"/", clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var all []kitexInstance
	for _, kv := range response.Kvs {
		var instance kitexInstance
		if json.Unmarshal(kv.Value, &instance) != nil {
			continue
		}
		if instance.Weight < 1 {
			instance.Weight = 10
		}
		all = append(all, instance)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no instance remains for %s", service)
	}
	return all, nil
}

// resolver resolves kitex:///<service> again and again, as kitex refreshes what it has cached: it
// watches nothing.
func (r kitexRegistry) resolver() resolver.Builder {
	return peerResolver{"kitex", func(ctx context.Context, target resolver.Target, update func([]string)) error {
		refresh := time.NewTicker(20 * time.Millisecond)
		defer refresh.Stop()
		for ; ctx.Err() == nil; <-refresh.C {
			instances, err := r.resolve(ctx, target.Endpoint())
			if err != nil {
				continue
			}
			addrs := make([]string, len(instances))
			for i, instance := range instances {
				addrs[i] = instance.Address
			}
			slices.Sort(addrs)
			update(slices.Compact(addrs))
		}
		return nil
	}}
}
