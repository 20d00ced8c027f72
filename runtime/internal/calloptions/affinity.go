package calloptions

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// WithAffinity ties the calls made with ctx to key. "" removes an affinity.
func WithAffinity(ctx context.Context, key string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx) // md is a copy
	var k Key
	if key == "" {
		md.Delete(serviceconfig.AffinityHeader)
	} else {
		sum := sha256.Sum256([]byte(key))
		hash := binary.BigEndian.Uint64(sum[:])
		header := fmt.Sprintf("%016x", hash)
		k = Key{key, hash, xxhash.Sum64String(header)}
		if md == nil {
			md = metadata.MD{}
		}
		md.Set(serviceconfig.AffinityHeader, header)
	}
	return metadata.NewOutgoingContext(with(ctx, func(o *Options) { o.Affinity = k }), md)
}
