// Package bounded waits for what a caller's code may hold up: a log handler, a health service, or a wrapper of the etcd client
// that does not heed contexts.
package bounded

import (
	"context"
	"time"
)

// grace is how long f is waited for after the context has ended, for what f does takes no time by itself.
const grace = 100 * time.Millisecond

// Run calls f, and returns when f has returned, or a moment after ctx has ended. f goes on then, in a goroutine that ends
// with it.
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
