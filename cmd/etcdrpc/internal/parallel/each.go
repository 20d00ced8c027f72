// Package parallel does things beside each other.
package parallel

import (
	"sync"
)

// Each calls do with the numbers from 0 to below n, at most limit at a time, and returns when all calls have returned.
func Each(n, limit int, do func(n int)) {
	slots := make(chan struct{}, limit)
	var running sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			do(i)
		})
	}
	running.Wait()
}
