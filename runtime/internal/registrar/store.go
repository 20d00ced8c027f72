package registrar

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/listwatch"
)

// Add puts an entry without a lease in etcd. It returns an error if one of the
// entry's keys is on a lease, as a server's is: a put would take the key off
// the lease, and the key would stay after the server has gone.
func (r *Registrar) Add(ctx context.Context, e Entry) error {
	e = e.complete()
	items, err := e.items(r.config.Namespace)
	if err != nil {
		return err
	}

	r.warn(e)

	var unleased []clientv3.Cmp
	var puts []clientv3.Op

	var keys []string
	for _, item := range items {
		key := item.Key(clientv3.NoLease)

		// holds for a missing key, too
		unleased = append(unleased, clientv3.Compare(clientv3.LeaseValue(key), "=", 0))
		puts = append(puts, clientv3.OpPut(key, item.Value))
		keys = append(keys, key)
	}

	resp, err := r.config.Client.KV.Txn(ctx).If(unleased...).Then(puts...).Commit()
	if err == nil && !resp.Succeeded {
		err = fmt.Errorf(
			"%q has an entry on a lease: stop the server that announces it or, if that has gone, remove the entry first",
			keys)
	}

	return err
}

// Remove deletes the entries of an instance under a service key, even if
// another process has put them. It returns an error if there are none.
func (r *Registrar) Remove(ctx context.Context, key, instance string) error {
	if err := endpoint.CheckKey(key); err != nil {
		return err
	}

	if instance == "" {
		return errors.New("the instance is empty")
	}

	key = r.config.Namespace + key

	found, err := r.remove(ctx, anyLayout, key, instance)
	if errors.Is(err, rpctypes.ErrPermissionDenied) && !found {
		// The user's role may allow only keys that begin with key and a slash.
		found, err = r.remove(ctx, endpoint.Reader{}, key, instance)
	}

	if err == nil && !found {
		err = errors.New("no such instance")
	}

	return err
}

// remove deletes the entries of an instance from a reader's range, page by
// page, and reports whether it found any.
func (r *Registrar) remove(
	ctx context.Context,
	reader endpoint.Reader,
	key, instance string,
) (found bool, err error) {
	kv := r.config.Client.KV
	removeFrom := func(page []*mvccpb.KeyValue) error {
		for _, item := range page {
			if !matches(item, key, instance) {
				continue
			}

			found = true

			if _, err := kv.Delete(ctx, string(item.Key)); err != nil {
				return err
			}
		}

		return nil
	}

	from, end := reader.Range(key)
	_, err = listwatch.Pages(ctx, kv, listwatch.Range{From: from, End: end}, removeFrom)

	return found, err
}

// anyLayout reads all layouts except custom JSON, whose entries are found by
// their keys.
var anyLayout = endpoint.Reader{LeaseSuffix: true}

// matches reports whether kv is an entry of an instance. A malformed entry is
// matched by its key.
func matches(kv *mvccpb.KeyValue, key, instance string) bool {
	e, _, ok, err := anyLayout.Decode(key, string(kv.Key), kv.Value, kv.Lease)
	if !ok {
		return false
	}

	if strings.TrimPrefix(string(kv.Key), key+"/") == instance {
		return true
	}

	return err == nil && (e.Instance == instance || e.Addr == instance)
}
