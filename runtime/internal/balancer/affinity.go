package balancer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// AffinityHeader is the request metadata that ring_hash hashes. Generated service configs name it.
const AffinityHeader = serviceconfig.AffinityHeader

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
	hash := binary.BigEndian.Uint64(sum[:])
	header := fmt.Sprintf("%016x", hash)
	md.Set(AffinityHeader, header)
	return metadata.NewOutgoingContext(withAffinity(ctx, affinity{key, hash, xxhash.Sum64String(header)}), md)
}

func withAffinity(ctx context.Context, a affinity) context.Context {
	return wishing(ctx, func(w *wishes) { w.affinity = a })
}

// Affinity returns what WithAffinity was given.
func Affinity(ctx context.Context) (key string, ok bool) {
	a := wishesOf(ctx).affinity
	return a.key, a.key != ""
}
