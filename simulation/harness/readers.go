package harness

import (
	"slices"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
)

// readers are the processes that follow the shop.
type readers struct {
	w   *world
	all []*caller
}

// soon checks, a while from now, that every reader whose way to etcd was not disturbed has heard of a change.
func (r *readers) soon(change string, heard func(runtime.KeyStatus) bool) {
	lives := make([]int, len(r.all))
	for i, p := range r.all {
		lives[i], _ = p.current()
	}
	at := r.w.Now()
	r.w.later.Go(func() {
		time.Sleep(record.Promptly)
		for i, p := range r.all {
			registry := p.running()
			if life, _ := p.current(); registry == nil || life != lives[i] || r.w.Disturbed(p.index, at) {
				continue
			}
			status := keyStatus(registry, acme.ShopKey)
			watched := status
			watched.Endpoints = p.yielded()
			if !heard(status) || !heard(watched) {
				r.w.Report(check.Late, "%s has not heard after %v that %s: it knows %v and %q, and its watch has yielded %v%s", p.name(), record.Promptly,
					change, acme.Addrs(status.Endpoints), status.ServiceConfig, acme.Addrs(watched.Endpoints), r.w.far())
			}
		}
	})
}

func keyStatus(registry *runtime.Registry, key string) runtime.KeyStatus {
	keys := registry.Status().Keys
	if i := slices.IndexFunc(keys, func(k runtime.KeyStatus) bool { return k.Key == key }); i >= 0 {
		return keys[i]
	}
	return runtime.KeyStatus{}
}
