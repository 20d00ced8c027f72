package runtime

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// reconnectEvery is how often, at the most, a lost connection to etcd is tried.
const reconnectEvery = 500 * time.Millisecond

// keepReconnecting has the etcd client's connection tried again soon for as long as it fails, until
// ctx ends. gRPC's own backoff grows to two minutes, which is how late an etcd that was away for an
// hour would be noticed to be back. reconnected is called each time that the connection is up again.
func keepReconnecting(ctx context.Context, conn *grpc.ClientConn, reconnected func()) {
	was := connectivity.Ready
	for {
		state := conn.GetState()
		if state == connectivity.Ready && was != connectivity.Ready {
			reconnected()
		}
		was = state
		if state != connectivity.TransientFailure {
			if !conn.WaitForStateChange(ctx, state) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectEvery/2 + rand.N(reconnectEvery/2)):
			conn.ResetConnectBackoff()
		}
	}
}
