package registrar

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/lease"
)

// Add puts an entry that hangs on no lease in etcd.
func (r *Registrar) Add(ctx context.Context, e Entry) error {
	e = e.complete()
	items, err := e.items(r.config.Namespace)
	if err != nil {
		return err
	}
	r.warn(e)
	puts := make([]clientv3.Op, len(items))
	for i, item := range items {
		puts[i] = clientv3.OpPut(item.Key(clientv3.NoLease), item.Value)
	}
	_, err = r.config.Client.KV.Txn(ctx).Then(puts...).Commit()
	return err
}

// Remove deletes the entries of an instance under a service key, also those of other processes. It is an error
// if there are none.
func (r *Registrar) Remove(ctx context.Context, key, instance string) error {
	if err := endpoint.CheckKey(key); err != nil {
		return err
	}
	if instance == "" {
		return errors.New("the instance is empty")
	}
	key = r.config.Namespace + key
	found, err := r.list(ctx, key)
	if err != nil {
		return err
	}
	var deletes []clientv3.Op
	for _, kv := range found {
		if kv.matches(key, instance) {
			deletes = append(deletes, clientv3.OpDelete(kv.key))
		}
	}
	if len(deletes) == 0 {
		return errors.New("no such instance")
	}
	for batch := range slices.Chunk(deletes, lease.MaxOps) {
		if _, err := r.config.Client.KV.Txn(ctx).Then(batch...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// keyValue is a key of etcd's.
type keyValue struct {
	key   string
	value []byte
	lease int64
}

// anyLayout reads all layouts but home-made JSON. Entries of that are found by their keys alone.
var anyLayout = endpoint.Reader{LeaseSuffix: true}

// list returns the keys that may be entries of a service key, in any layout.
func (r *Registrar) list(ctx context.Context, key string) ([]keyValue, error) {
	from, end := anyLayout.Range(key)
	resp, err := r.config.Client.KV.Get(ctx, from, clientv3.WithRange(end))
	if errors.Is(err, rpctypes.ErrPermissionDenied) {
		// A role may well be for "key/" only.
		from, end = endpoint.Reader{}.Range(key)
		resp, err = r.config.Client.KV.Get(ctx, from, clientv3.WithRange(end))
	}
	if err != nil {
		return nil, err
	}
	all := make([]keyValue, len(resp.Kvs))
	for i, kv := range resp.Kvs {
		all[i] = keyValue{string(kv.Key), kv.Value, kv.Lease}
	}
	return all, nil
}

// matches reports whether this is an entry of an instance. A malformed one is known by its key.
func (kv keyValue) matches(key, instance string) bool {
	e, _, ok, err := anyLayout.Decode(key, kv.key, kv.value, kv.lease)
	if !ok {
		return false
	}
	if strings.TrimPrefix(kv.key, key+"/") == instance {
		return true
	}
	return err == nil && (e.Instance == instance || e.Addr == instance)
}
