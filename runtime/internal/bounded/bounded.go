// Package bounded limits how long this module waits for code that may ignore
// contexts, such as a wrapper of the etcd client.
package bounded

import (
	"context"
	"time"
)

// grace is how long Run and Wait still wait after ctx has ended. Only code that
// hangs takes longer to return.
const grace = 100 * time.Millisecond

// Run calls f in a goroutine. It returns true when f has returned, or false if
// f still runs when grace has passed after the end of ctx.
func Run(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)

		f()
	}()

	return Wait(ctx, done)
}

// Wait returns true when done is closed, or false when grace has passed after
// the end of ctx.
func Wait(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	case <-ctx.Done():
	}

	select {
	case <-done:
		return true
	case <-time.After(grace):
		return false
	}
}
