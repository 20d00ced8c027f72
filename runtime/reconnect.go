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
// hour would be noticed to be back. reconnected is called each time that the connection is up again.
func keepReconnecting(ctx context.Context, conn *grpc.ClientConn, reconnected func()) {
	was, lost := connectivity.Ready, time.Now()
	for {
		state := conn.GetState()
		switch {
		case state == was:
		case state == connectivity.Ready:
			reconnected()
		case was == connectivity.Ready:
			lost = time.Now()
		}
		was = state
		if state != connectivity.TransientFailure {
			if !conn.WaitForStateChange(ctx, state) {
				return
			}
			continue
		}
		bound := min(max(time.Since(lost)/20, minReconnectPause), maxReconnectPause)
		select {
		case <-ctx.Done():
			return
		case <-time.After(bound/2 + rand.N(bound/2)):
			conn.ResetConnectBackoff()
		}
	}
}
