// Package calloptions keeps the policy's options of a call in the call's context.
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

// Options are the options of a call. They are immutable. The context holds them as one value, because a search of the
// context for each option would take longer than the rest of a pick.
type Options struct {
	Target   Target
	Named    bool // Target is set
	Lane     string
	Affinity Key
	Stream   bool // the call is a stream, whose duration does not measure the server's latency
}

// Target names the instance that a call goes to.
type Target struct {
	Instance string
	Addr     string // distinguishes instances with the same id; "" means the first with that id
	Sequence uint64 // the call waits for the key's state with this number, or a later one; 0 means any state
}

// Key is an affinity key: calls with the same key go to the same instance.
type Key struct {
	Text       string // "" without an affinity
	Hash       uint64 // the hash of Text
	HeaderHash uint64 // the hash of the request header, as ring_hash computes it
}

type contextKey struct{}

var none Options

// Of returns the options of the calls made with ctx, which must not be written to.
func Of(ctx context.Context) *Options {
	if o, ok := ctx.Value(contextKey{}).(*Options); ok {
		return o
	}
	return &none
}

// with returns ctx with its options changed.
func with(ctx context.Context, change func(*Options)) context.Context {
	o := *Of(ctx)
	change(&o)
	return context.WithValue(ctx, contextKey{}, &o)
}

// WithTarget sends the calls made with ctx to an instance.
func WithTarget(ctx context.Context, to Target) context.Context {
	return with(ctx, func(o *Options) { o.Target, o.Named = to, true })
}

// WithStream marks the calls made with ctx as streams.
func WithStream(ctx context.Context) context.Context {
	return with(ctx, func(o *Options) { o.Stream = true })
}

// WithLane sends the calls made with ctx to the instances of a lane. "" removes the lane.
func WithLane(ctx context.Context, lane string) context.Context {
	if Of(ctx).Lane == lane {
		return ctx
	}
	return with(ctx, func(o *Options) { o.Lane = lane })
}

// PickedHeader is metadata that our policy adds to an attempt of a call to one instance, to mark it as picked by our policy. gRPC sends no
// metadata whose name begins with a colon.
const PickedHeader = ":etcd-picked"

// IsPicked reports whether our policy has picked for the attempt with the context ctx.
func IsPicked(ctx context.Context) bool {
	md, _ := metadata.FromOutgoingContext(ctx)
	return len(md[PickedHeader]) > 0
}

// LaneOf returns the lane of a call with options o, or "". If o has no lane, LaneOf reads the lane from the request metadata
// named header, unless header is "". It ignores an invalid lane in the metadata, which may come from another process. It
// allocates only if header is set.
func LaneOf(ctx context.Context, o *Options, header string) string {
	if o.Lane != "" || header == "" {
		return o.Lane
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md[header]; len(values) > 0 && serviceconfig.ValidLane(values[len(values)-1]) {
		return values[len(values)-1]
	}
	return ""
}

// WithAffinity gives the calls made with ctx the affinity key. An empty key removes an affinity.
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
