package calloptions

import (
	"context"

	"google.golang.org/grpc/metadata"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// WithLane sends the calls made with ctx to the instances of a lane. "" removes the lane.
func WithLane(ctx context.Context, lane string) context.Context {
	if Of(ctx).Lane == lane {
		return ctx
	}
	return with(ctx, func(o *Options) { o.Lane = lane })
}

// LaneOf returns the lane of a call with options o, "" if it has none. header is the request metadata that names the lane
// if o has none; "" for none. LaneOf ignores an invalid lane in the header, which may come from another process. It
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
