// Package calloptions keeps the policy's options of a call in the call's
// context.
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

// Options are the options of a call. They are immutable. The context holds them
// as one value, because a search of the context for each option would take
// longer than the rest of a pick.
type Options struct {
	Target Target
	Named  bool // Target is set

	// the call is a stream, whose duration does not measure the server's
	// latency
	Stream bool

	Lane     string
	Affinity Key

	// Service is the full key of the service for which Target, Named and Stream
	// hold, or "" for any service.
	Service string
}

// Target names the instance that a call goes to.
type Target struct {
	Instance string

	// distinguishes instances with the same id; "" means the first with that id
	Addr string

	// the call waits for the key's state with this number, or a later one; 0
	// means any state
	Sequence uint64
}

// Key is an affinity key: calls with the same key go to the same instance.
type Key struct {
	Text       string // "" without an affinity
	Hash       uint64 // the hash of Text
	HeaderHash uint64 // the hash of the request header, as ring_hash computes it
}

type contextKey struct{}

var none Options

// stored returns the options in ctx, whichever service they are for.
func stored(ctx context.Context) *Options {
	if o, ok := ctx.Value(contextKey{}).(*Options); ok {
		return o
	}

	return &none
}

// Of returns the options that ctx gives to calls to a service. The caller must
// not write to them.
func Of(ctx context.Context, service string) *Options {
	o := stored(ctx)
	if o.Service != "" && o.Service != service {
		return &Options{Lane: o.Lane, Affinity: o.Affinity}
	}

	return o
}

// ForCall returns the context and the options of one call to a service. gRPC
// passes this context to credentials, and returns it from ClientStream.Context.
// So calls to other services may be made with it: they do not have the target.
func ForCall(
	ctx context.Context,
	service string,
	stream bool,
) (context.Context, *Options) {
	o := Of(ctx, service)
	if o.Stream == stream && (!o.Named || o.Service != "") {
		return ctx, o
	}

	next := *o
	next.Service = service
	next.Stream = stream

	return context.WithValue(ctx, contextKey{}, &next), &next
}

// with returns ctx with its options changed.
func with(ctx context.Context, change func(*Options)) context.Context {
	o := *stored(ctx)
	change(&o)

	return context.WithValue(ctx, contextKey{}, &o)
}

// WithTarget sends the calls made with ctx to an instance.
func WithTarget(ctx context.Context, to Target) context.Context {
	return with(ctx, func(o *Options) {
		*o = Options{Target: to, Named: true, Lane: o.Lane, Affinity: o.Affinity}
	})
}

// WithLane sends the calls made with ctx to the instances of a lane. "" removes
// the lane.
func WithLane(ctx context.Context, lane string) context.Context {
	switch {
	case stored(ctx).Lane == lane:
		return ctx
	case lane == "":
		// ctx may be the context of a stream, which has the header
		ctx = WithHeader(ctx, serviceconfig.LaneHeader, "")
	}

	return with(ctx, func(o *Options) { o.Lane = lane })
}

// LaneOf returns the lane of a call with options o, or "". If o has no lane,
// LaneOf reads the lane from the request metadata named header, unless header
// is "". It ignores an invalid lane in the metadata, which may come from
// another process. It allocates only if header is set.
func LaneOf(ctx context.Context, o *Options, header string) string {
	if o.Lane != "" || header == "" {
		return o.Lane
	}

	md, _ := metadata.FromOutgoingContext(ctx)
	values := md[header]
	if len(values) > 0 && serviceconfig.ValidLane(values[len(values)-1]) {
		return values[len(values)-1]
	}

	return ""
}

// WithAffinity gives the calls made with ctx the affinity key. An empty key
// removes an affinity.
func WithAffinity(ctx context.Context, key string) context.Context {
	var k Key

	header := ""

	if key != "" {
		sum := sha256.Sum256([]byte(key))
		hash := binary.BigEndian.Uint64(sum[:])
		header = fmt.Sprintf("%016x", hash)
		k = Key{key, hash, xxhash.Sum64String(header)}
	}

	return WithHeader(with(ctx, func(o *Options) {
		o.Affinity = k
	}), serviceconfig.AffinityHeader, header)
}

// WithHeader sets the request metadata name, in lower case, of the calls made
// with ctx. An empty value removes the metadata.
func WithHeader(ctx context.Context, name, value string) context.Context {
	if md, _ := metadata.FromOutgoingContext(ctx); len(md[name]) > 0 {
		delete(md, name) // md is a copy
		ctx = metadata.NewOutgoingContext(ctx, md)
	}

	if value == "" {
		return ctx
	}

	return metadata.AppendToOutgoingContext(ctx, name, value)
}
