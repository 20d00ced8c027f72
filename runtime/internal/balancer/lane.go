package balancer

import (
	"context"

	"google.golang.org/grpc/metadata"
)

type laneKey struct{}

// WithLane has the calls made with ctx go to the instances of a lane. "" takes a lane away.
func WithLane(ctx context.Context, lane string) context.Context {
	if now, _ := Lane(ctx); now == lane {
		return ctx
	}
	return context.WithValue(ctx, laneKey{}, lane)
}

// Lane returns what WithLane was given.
func Lane(ctx context.Context) (lane string, ok bool) {
	lane, _ = ctx.Value(laneKey{}).(string)
	return lane, lane != ""
}

// laneOf returns the lane of a call, "" if it has none. header is the request metadata that names the lane where the
// context does not, "" if there is none. It allocates only where there is a header.
func laneOf(ctx context.Context, header string) string {
	if lane, ok := Lane(ctx); ok || header == "" {
		return lane
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md[header]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}
