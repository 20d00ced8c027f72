package seeds

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
)

// dialReader returns a connection whose resolver lists the keys with a prefix
// and then follows changes, as many systems do. address returns an entry's
// address, or "" to skip the entry.
func (w *world) dialReader(
	target, prefix string,
	address func(*mvccpb.KeyValue) string,
) *grpc.ClientConn {
	w.t.Helper()

	// gRPC looks up resolvers by the scheme in lower case
	scheme, _, _ := strings.Cut(strings.ToLower(target), ":")

	follow := func(
		ctx context.Context,
		_ resolver.Target,
		update func([]resolver.Address),
	) error {
		known := map[string]string{} // addresses of entries, by key

		apply := func(events []*clientv3.Event) {
			for _, event := range events {
				if event.Type == clientv3.EventTypeDelete {
					delete(known, string(event.Kv.Key))
				} else if addr := address(event.Kv); addr != "" {
					known[string(event.Kv.Key)] = addr
				}
			}

			update(bare(slices.Compact(slices.Sorted(maps.Values(known)))))
		}

		return followPrefix(ctx, w.theirs, prefix, apply)
	}

	return w.dial(target, peerResolver{scheme, follow})
}

// valueOf returns the value of an entry, which is its address.
func valueOf(kv *mvccpb.KeyValue) string {
	return string(kv.Value)
}

// peerResolver is a gRPC resolver for clients of earlier registries. follow,
// which differs by registry, calls update with the addresses of a target, and
// again at each change until ctx ends.
type peerResolver struct {
	scheme string
	follow func(ctx context.Context, target resolver.Target, update func([]resolver.Address)) error
}

func (p peerResolver) Scheme() string {
	return p.scheme
}

func (p peerResolver) Build(
	target resolver.Target,
	cc resolver.ClientConn,
	_ resolver.BuildOptions,
) (resolver.Resolver, error) {
	ctx, cancel := context.WithCancel(context.Background())
	r := &runningResolver{cancel: cancel}
	r.running.Go(func() {
		err := p.follow(ctx, target, func(addrs []resolver.Address) {
			// The tests make calls, which show whether gRPC has accepted the
			// state.
			_ = cc.UpdateState(resolver.State{Addresses: addrs})
		})
		if err != nil && ctx.Err() == nil {
			cc.ReportError(err)
		}
	})

	return r, nil
}

// bare converts addresses to gRPC's type, without attributes.
func bare(addrs []string) []resolver.Address {
	all := make([]resolver.Address, len(addrs))
	for i, addr := range addrs {
		all[i].Addr = addr
	}

	return all
}

type runningResolver struct {
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (*runningResolver) ResolveNow(resolver.ResolveNowOptions) {}

func (r *runningResolver) Close() {
	r.cancel()
	r.running.Wait()
}

// followPrefix calls apply with a put event for each key with a prefix, and
// then with later events until ctx ends.
func followPrefix(
	ctx context.Context,
	client *clientv3.Client,
	prefix string,
	apply func([]*clientv3.Event),
) error {
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
