package seeds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"
)

// namingUpdate is naming.Update of gRPC before 1.30, whose JSON is what etcd's old clientv3/naming,
// and hanjm's after it, keeps in etcd.
type namingUpdate struct {
	Op       uint8
	Addr     string
	Metadata any
}

const (
	namingAdd    = 0
	namingDelete = 1
)

// hanjmResolver is that package's GRPCResolver: writer and reader in one.
type hanjmResolver struct{ client *clientv3.Client }

// update adds an address to a target, such as with a lease, or deletes it by force.
func (r hanjmResolver) update(ctx context.Context, target string, u namingUpdate, opts ...clientv3.OpOption) error {
	key := target + "/" + u.Addr
	switch u.Op {
	case namingAdd:
		value, err := json.Marshal(u)
		if err != nil {
			return err
		}
		_, err = r.client.Put(ctx, key, string(value), opts...)
		return err
	case namingDelete:
		_, err := r.client.Delete(ctx, key, opts...)
		return err
	default:
		return fmt.Errorf("naming: bad operation %d", u.Op)
	}
}

// follow tells a target's updates: a put adds, a deletion deletes the address that the value had
// before, and what is no JSON is passed over.
func (r hanjmResolver) follow(ctx context.Context, target string, apply func([]namingUpdate)) error {
	return followPrefix(ctx, r.client, target+"/", func(events []*clientv3.Event) {
		var updates []namingUpdate
		for _, event := range events {
			kv, op := event.Kv, uint8(namingAdd)
			if event.Type == clientv3.EventTypeDelete {
				kv, op = event.PrevKv, namingDelete
			}
			var u namingUpdate
			if json.Unmarshal(kv.Value, &u) == nil {
				u.Op = op
				updates = append(updates, u)
			}
		}
		apply(updates)
	})
}

// resolver balances over a target, as grpc.RoundRobin did with the updates.
func (r hanjmResolver) resolver() resolver.Builder {
	return peerResolver{"hanjm", func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error {
		known := map[string]bool{}
		return r.follow(ctx, target.Endpoint(), func(updates []namingUpdate) {
			for _, u := range updates {
				if u.Op == namingDelete {
					delete(known, u.Addr)
				} else {
					known[u.Addr] = true
				}
			}
			update(bare(slices.Sorted(maps.Keys(known))))
		})
	}}
}
