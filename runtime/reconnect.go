package runtime

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// A lost connection to etcd is tried again after a pause between half and all of a bound: a
// twentieth of the time that it has been lost, within these limits.
const (
	minReconnectPause = 300 * time.Millisecond
	maxReconnectPause = time.Second
)

// keepReconnecting has the etcd client's connection tried again soon for as long as it fails, until
// ctx ends. gRPC's own backoff grows to two minutes, which is how late an etcd that was away for an
// hour would be noticed to be back. reconnected is called each time that the connection is up again,
// not when it is for the first time.
func keepReconnecting(ctx context.Context, conn *grpc.ClientConn, reconnected func()) {
	if conn == nil {
		return // a client that was put together from parts has none
	}
	lost, again := time.Now(), false
	for {
		switch state := conn.GetState(); state {
		case connectivity.Ready:
			if again {
				reconnected()
			}
			if !conn.WaitForStateChange(ctx, state) {
				return
			}
			lost, again = time.Now(), true
		case connectivity.TransientFailure:
			bound := min(max(time.Since(lost)/20, minReconnectPause), maxReconnectPause)
			select {
			case <-ctx.Done():
				return
			case <-time.After(bound/2 + rand.N(bound/2)):
				conn.ResetConnectBackoff()
			}
		default:
			if !conn.WaitForStateChange(ctx, state) {
				return
			}
		}
	}
}
