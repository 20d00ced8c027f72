// Package bounded bounds waits for code of the library's user that may ignore contexts: a log handler, a health service, or
// a wrapper of the etcd client.
package bounded

import (
	"context"
	"time"
)

// grace is how long Run and Wait still wait after ctx has ended. Only code that hangs takes longer to return.
const grace = 100 * time.Millisecond

// Run calls f in a goroutine. It returns when f has returned, or false the time grace after ctx has ended. f may run on after that.
func Run(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return Wait(ctx, done)
}

// Briefly calls f, which is the application's and may hang or panic, in a goroutine. It returns when f has returned or panicked, or
// false after the time grace.
func Briefly(f func()) bool {
	ended, end := context.WithCancel(context.Background())
	end()
	return Run(ended, func() {
		defer func() { _ = recover() }()
		f()
	})
}

// Wait returns when done is closed, or false the time grace after ctx has ended.
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
