package runtime

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// WithAffinity sends the calls made with the returned context to the instance
// that key selects, if the service's policy is ring_hash. Equal keys reach the
// same instance from every client process, unless clients use subsets. Under
// other policies, the key decides only the group of a split. The request
// metadata carries a hash of the key, not the key. An empty key removes the
// affinity.
func WithAffinity(ctx context.Context, key string) context.Context {
	return calloptions.WithAffinity(ctx, key)
}

// Affinity returns the key that was given to [WithAffinity]. ok is false if ctx
// has none.
func Affinity(ctx context.Context) (key string, ok bool) {
	key = calloptions.Of(ctx, "").Affinity.Text
	return key, key != ""
}

// WithTarget sends the calls made with the returned context to the service's
// instance with the given id, and to no other instance. An instance that has
// left etcd gets the calls while it is still connected and healthy. If the
// instance cannot be reached, the calls fail with Unavailable or, if they are
// wait-for-ready, wait. gRPC passes the context of a call to credentials, and
// returns it from ClientStream.Context: in these contexts, the target holds
// only for calls to the same service. WithTarget works on connections made by
// [Registry.NewClient], which generated clients use.
func WithTarget(ctx context.Context, instance string) context.Context {
	return calloptions.WithTarget(ctx, calloptions.Target{Instance: instance})
}

// WithLane sends the calls made with the returned context to the instances in a
// lane, if the routes of the service's policy put instances in lanes.
// Connections made by [Registry.NewClient], which generated clients use, also
// send the lane to the server as request metadata: see [CarryLane]. Calls with
// a lane that is not 1 to 128 letters, digits and "-_.:/" end with
// InvalidArgument. An empty lane removes the lane.
func WithLane(ctx context.Context, lane string) context.Context {
	return calloptions.WithLane(ctx, lane)
}

// Lane returns the lane that [WithLane] or [CarryLane] gave to ctx. ok is false
// if ctx has no lane.
func Lane(ctx context.Context) (lane string, ok bool) {
	lane = calloptions.Of(ctx, "").Lane
	return lane, lane != ""
}
