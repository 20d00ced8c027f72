package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/balancer"
)

// affinityHeader is the metadata by whose value ring-hash picks; generated service configs name it.
const affinityHeader = "etcd-affinity"

type affinityKey struct{}

// WithAffinity has the calls made with the returned context go to the instance that key belongs to,
// where the service's policy is ring_hash: equal keys reach the same instance, from every client
// process. Under other policies it has no effect. The key itself is not sent: a hash of it is, as
// request metadata. "" takes an affinity away.
func WithAffinity(ctx context.Context, key string) context.Context {
	ctx = context.WithValue(ctx, affinityKey{}, key)
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if key == "" {
		md.Delete(affinityHeader)
	} else {
		if md == nil {
			md = metadata.MD{}
		}
		sum := sha256.Sum256([]byte(key))
		md.Set(affinityHeader, hex.EncodeToString(sum[:8]))
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// Affinity returns the key that was given to [WithAffinity]. ok is false where there is none.
func Affinity(ctx context.Context) (key string, ok bool) {
	key, _ = ctx.Value(affinityKey{}).(string)
	return key, key != ""
}

// WithTarget has the calls made with the returned context go to the given instance of the service,
// by its instance id, and to no other: while that instance is not there they end with Unavailable.
// It works on connections made by [Registry.NewClient], so also in generated clients, whose policy
// was not replaced by grpc.WithDefaultServiceConfig.
func WithTarget(ctx context.Context, instance string) context.Context {
	return balancer.WithTarget(ctx, instance)
}
