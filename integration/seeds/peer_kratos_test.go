package seeds

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
)

// kratosInstance is what kratos keeps of a server.
type kratosInstance struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Metadata  map[string]string `json:"metadata"`
	Endpoints []string          `json:"endpoints"`
}

// kratosRegistry is kratos' contrib/registry/etcd: <namespace>/<name>/<id> holds the instance.
type kratosRegistry struct {
	w         *world
	namespace string
}

func (w *world) kratos() kratosRegistry { return kratosRegistry{w, "/microservices"} }

// kratosHeartbeat keeps one instance registered.
type kratosHeartbeat struct {
	registry kratosRegistry
	key      string
	stop     func()
}

// register puts an instance on a lease, and again on a new one whenever renewing ends.
func (r kratosRegistry) register(instance kratosInstance, ttl time.Duration) *kratosHeartbeat {
	r.w.t.Helper()
	value, err := json.Marshal(instance)
	if err != nil {
		r.w.t.Fatal(err)
	}
	h := &kratosHeartbeat{registry: r, key: r.namespace + "/" + instance.Name + "/" + instance.ID}
	ctx, cancel := context.WithCancel(context.Background())
	answers, err := r.put(ctx, h.key, string(value), ttl)
	if err != nil {
		r.w.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			for range answers {
			}
			if answers, err = r.put(ctx, h.key, string(value), ttl); err != nil && !ended(ctx, err) {
				r.w.t.Logf("kratos: register %s again: %v", h.key, err)
				return
			}
		}
	})
	h.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	r.w.t.Cleanup(h.stop)
	return h
}

func (r kratosRegistry) put(ctx context.Context, key, value string, ttl time.Duration) (<-chan *clientv3.LeaseKeepAliveResponse, error) {
	lease, err := r.w.theirs.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return nil, err
	}
	if _, err := r.w.theirs.Put(ctx, key, value, clientv3.WithLease(lease.ID)); err != nil {
		return nil, err
	}
	return r.w.theirs.KeepAlive(ctx, lease.ID)
}

// deregister deletes the key.
func (h *kratosHeartbeat) deregister() {
	h.stop()
	h.registry.w.delete(h.key)
}

// service lists the instances of a service. The prefix has no slash at its end, so it takes in
// what begins alike; instances with another name are passed over; but one value that does not
// parse is the end of the whole list.
func (r kratosRegistry) service(ctx context.Context, name string) ([]kratosInstance, error) {
	response, err := r.w.theirs.Get(ctx, r.namespace+"/"+name, clientv3.WithPrefix())
	if err != nil {
		return nil, err
	}
	var all []kratosInstance
	for _, kv := range response.Kvs {
		var instance kratosInstance
		if err := json.Unmarshal(kv.Value, &instance); err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		if instance.Name == name {
			all = append(all, instance)
		}
	}
	return all, nil
}

// resolver resolves discovery:///<name>. It lists anew at each event; when that fails, or finds
// nothing, gRPC keeps what it has.
func (r kratosRegistry) resolver() resolver.Builder {
	return peerResolver{"discovery", func(ctx context.Context, target resolver.Target, update func([]string)) error {
		name := target.Endpoint()
		return followPrefix(ctx, r.w.theirs, r.namespace+"/"+name, func([]*clientv3.Event) {
			instances, err := r.service(ctx, name)
			if err != nil {
				if !ended(ctx, err) {
					r.w.t.Logf("kratos: list %s: %v", name, err)
				}
				return
			}
			if addrs := kratosAddrs(instances, "grpc"); len(addrs) > 0 {
				update(addrs)
			}
		})
	}}
}

// kratosAddrs picks the endpoint of a scheme from each instance: grpc, or grpcs for one that dials
// with TLS.
func kratosAddrs(instances []kratosInstance, scheme string) []string {
	var addrs []string
	for _, instance := range instances {
		for _, endpoint := range instance.Endpoints {
			u, err := url.Parse(endpoint)
			if err != nil {
				break
			}
			if u.Scheme == scheme {
				addrs = append(addrs, u.Host)
				break
			}
		}
	}
	slices.Sort(addrs)
	return slices.Compact(addrs)
}
