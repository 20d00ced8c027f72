package runtime

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// WithAffinity sends the calls made with the returned context to the instance that key belongs to,
// if the service's policy is ring_hash: equal keys reach the same instance, from every client
// process unless each uses a subset. Under other policies it chooses the group of a split and nothing else. The key itself is
// not sent: the request metadata has a hash of it. "" removes the affinity.
func WithAffinity(ctx context.Context, key string) context.Context {
	return calloptions.WithAffinity(ctx, key)
}

// Affinity returns the key that was given to [WithAffinity]. ok is false if ctx has none.
func Affinity(ctx context.Context) (key string, ok bool) {
	key = calloptions.Of(ctx).Affinity.Text
	return key, key != ""
}

// WithTarget sends the calls made with the returned context to the given instance of the service,
// by its instance id, and to no other: while that instance is not registered they end with Unavailable.
// It works on connections made by [Registry.NewClient], so also in generated clients.
func WithTarget(ctx context.Context, instance string) context.Context {
	return calloptions.WithTarget(ctx, calloptions.Target{Instance: instance})
}
