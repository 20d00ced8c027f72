package balancer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// AffinityHeader is the request metadata that ring_hash hashes. Generated service configs name it.
const AffinityHeader = serviceconfig.AffinityHeader

// affinity is a key that calls are tied to, and the hash of it that travels.
type affinity struct {
	key  string
	hash uint64
}

// WithAffinity ties the calls made with ctx to key. "" removes an affinity.
func WithAffinity(ctx context.Context, key string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // a copy
	if key == "" {
		md.Delete(AffinityHeader)
		return metadata.NewOutgoingContext(withAffinity(ctx, affinity{}), md)
	}
	if md == nil {
		md = metadata.MD{}
	}
	sum := sha256.Sum256([]byte(key))
	a := affinity{key, binary.BigEndian.Uint64(sum[:])}
	md.Set(AffinityHeader, fmt.Sprintf("%016x", a.hash))
	return metadata.NewOutgoingContext(withAffinity(ctx, a), md)
}

func withAffinity(ctx context.Context, a affinity) context.Context {
	return wishing(ctx, func(w *wishes) { w.affinity = a })
}

// Affinity returns what WithAffinity was given.
func Affinity(ctx context.Context) (key string, ok bool) {
	a := wishesOf(ctx).affinity
	return a.key, a.key != ""
}
