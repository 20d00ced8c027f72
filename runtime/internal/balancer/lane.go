package balancer

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// WithLane has the calls made with ctx go to the instances of a lane. "" takes a lane away.
func WithLane(ctx context.Context, lane string) context.Context {
	if now, _ := Lane(ctx); now == lane {
		return ctx
	}
	return wishing(ctx, func(w *wishes) { w.lane = lane })
}

// Lane returns what WithLane was given.
func Lane(ctx context.Context) (lane string, ok bool) {
	lane = wishesOf(ctx).lane
	return lane, lane != ""
}

// laneOf returns the lane of a call with wishes, "" if it has none. header is the request metadata that names the lane
// where the wishes do not, "" if there is none. It allocates only where there is a header.
func laneOf(ctx context.Context, w *wishes, header string) string {
	if w.lane != "" || header == "" {
		return w.lane
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	if values := md[header]; len(values) > 0 {
		return values[len(values)-1]
	}
	return ""
}
