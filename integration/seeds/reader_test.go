package seeds

import (
	"context"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/etcdrpc/protoc-gen-go-etcd/integration/internal/kit"
)

// dialReader returns a connection whose resolver lists the keys with a prefix and then follows changes, as many
// systems do. address returns an entry's address, or "" to skip the entry.
func (w *world) dialReader(target, prefix string, address func(*mvccpb.KeyValue) string) *grpc.ClientConn {
	w.t.Helper()
	return w.dialFollowing(target, func(ctx context.Context, update func([]string)) error {
		known := map[string]string{} // addresses of entries, by key
		return followPrefix(ctx, w.theirs, prefix, func(events []*clientv3.Event) {
			for _, event := range events {
				if event.Type == clientv3.EventTypeDelete {
					delete(known, string(event.Kv.Key))
				} else if addr := address(event.Kv); addr != "" {
					known[string(event.Kv.Key)] = addr
				}
			}
			update(slices.Compact(slices.Sorted(maps.Values(known))))
		})
	})
}

// valueOf returns the value of an entry, which is its address.
func valueOf(kv *mvccpb.KeyValue) string { return string(kv.Value) }

// dialFollowing returns a connection whose resolver is follow, which differs by registry. follow calls update with the addresses of
// the service, and again at each change until ctx ends, which is when the connection is closed.
func (w *world) dialFollowing(target string, follow func(ctx context.Context, update func(addrs []string)) error) *grpc.ClientConn {
	w.t.Helper()
	scheme, _, _ := strings.Cut(strings.ToLower(target), ":") // gRPC looks up resolvers by the scheme in lower case
	builder := manual.NewBuilderWithScheme(scheme)
	stop := kit.Run(w.t, func(ctx context.Context) error {
		err := follow(ctx, func(addrs []string) {
			state := resolver.State{Addresses: make([]resolver.Address, len(addrs))}
			for i, addr := range addrs {
				state.Addresses[i].Addr = addr
			}
			builder.UpdateState(state)
		})
		if ctx.Err() == nil {
			w.t.Errorf("the resolver of %s ended: %v", target, err)
		}
		return err
	})
	builder.CloseCallback = func() { _ = stop() }
	return w.dial(target, builder)
}

// followPrefix calls apply with a put event for each key with a prefix, and then with later events until ctx ends.
func followPrefix(ctx context.Context, client *clientv3.Client, prefix string, apply func([]*clientv3.Event)) error {
	list, err := client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return err
	}
	events := make([]*clientv3.Event, len(list.Kvs))
	for i, kv := range list.Kvs {
		events[i] = &clientv3.Event{Type: mvccpb.PUT, Kv: kv}
	}
	apply(events)
	watch := client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithPrevKV(),
		clientv3.WithRev(list.Header.Revision+1))
	for response := range watch {
		if err := response.Err(); err != nil {
			return err
		}
		apply(response.Events)
	}
	return ctx.Err()
}
