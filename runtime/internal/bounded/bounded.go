// Package bounded bounds waits for a caller's code that may ignore contexts: a log handler, a health service, or a wrapper of
// the etcd client.
package bounded

import (
	"context"
	"time"
)

// grace is how long Run waits for f after the context has ended: f takes no time unless the caller's code hangs.
const grace = 100 * time.Millisecond

// Run calls f, and returns when f has returned, or a moment after ctx has ended. f then goes on in its
// goroutine.
func Run(ctx context.Context, f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	Wait(ctx, done)
}

// Wait returns when done is closed, or a moment after ctx has ended.
func Wait(ctx context.Context, done <-chan struct{}) {
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	select {
	case <-done:
	case <-time.After(grace):
	}
}
