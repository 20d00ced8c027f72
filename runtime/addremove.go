package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Add puts ep in etcd under the service key, on no lease: it stays until [Registry.Remove], whether
// the endpoint is alive or not. It is for endpoints that cannot register themselves; layouts whose
// key is a lease id are an error. It returns when the entry is in etcd, or with an error.
func (r *Registry) Add(ctx context.Context, key string, ep Endpoint, opts ...RegisterOption) error {
	if err := r.start(); err != nil {
		return err
	}
	if err := r.add(ctx, entrySpec{key: key, ep: endpoint.Endpoint(ep), opts: opts}); err != nil {
		return fmt.Errorf("etcd: add an endpoint under %q: %w", key, err)
	}
	return nil
}

func (r *Registry) add(ctx context.Context, spec entrySpec) error {
	if err := endpoint.CheckKey(spec.key); err != nil {
		return err
	}
	ep, layouts, err := r.resolve(spec)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(layouts, (*endpoint.Layout).LeaseInKey); i >= 0 {
		return fmt.Errorf("layout %s needs a lease: use Register, or another layout", layouts[i])
	}
	items, err := r.items(spec.key, ep, layouts)
	if err != nil {
		return err
	}
	puts := make([]clientv3.Op, len(items))
	for i, item := range items {
		puts[i] = clientv3.OpPut(item.Key(clientv3.NoLease), item.Value)
	}
	_, err = r.client.KV.Txn(ctx).Then(puts...).Commit()
	return err
}

// Remove deletes the entry of an instance under the service key, in whatever layout and whoever's
// it is. instance is the instance id or the address. An instance that is not there is an error.
//
// A live owner puts its entry back: for that one use [Registration.Pause] or drain it.
func (r *Registry) Remove(ctx context.Context, key, instance string) error {
	if err := r.start(); err != nil {
		return err
	}
	if err := r.remove(ctx, key, instance); err != nil {
		return fmt.Errorf("etcd: remove %q under %q: %w", instance, key, err)
	}
	return nil
}

func (r *Registry) remove(ctx context.Context, key, instance string) error {
	if err := endpoint.CheckKey(key); err != nil {
		return err
	}
	if instance == "" {
		return errors.New("the instance is empty")
	}
	kvs, err := r.entries(ctx, r.opts.namespace+key)
	if err != nil {
		return err
	}
	var deletes []clientv3.Op
	for _, kv := range kvs {
		if names(r.opts.namespace+key, kv, instance) {
			deletes = append(deletes, clientv3.OpDelete(kv.key))
		}
	}
	if len(deletes) == 0 {
		return errors.New("no such instance")
	}
	for batch := range slices.Chunk(deletes, 100) {
		if _, err := r.client.KV.Txn(ctx).Then(batch...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// rawEntry is an entry as it is in etcd.
type rawEntry struct {
	key   string
	value []byte
	lease int64
}

// entries lists whatever may be an entry of a key, in any layout.
func (r *Registry) entries(ctx context.Context, key string) ([]rawEntry, error) {
	from, end := endpoint.Range(key, true)
	resp, err := r.client.KV.Get(ctx, from, clientv3.WithRange(end))
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		// A role may well be for "key/" only.
		from, end = endpoint.Range(key, false)
		resp, err = r.client.KV.Get(ctx, from, clientv3.WithRange(end))
	}
	if err != nil {
		return nil, err
	}
	all := make([]rawEntry, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		all[i] = rawEntry{string(kv.Key), kv.Value, kv.Lease}
	}
	return all, nil
}

// names tells whether an entry is of the instance. A malformed one still has a name.
func names(key string, kv rawEntry, instance string) bool {
	e, _, ok, err := endpoint.Decode(key, kv.key, kv.value, kv.lease)
	if !ok {
		return false
	}
	if strings.TrimPrefix(kv.key, key+"/") == instance {
		return true
	}
	return err == nil && (e.Instance == instance || e.Addr == instance)
}
