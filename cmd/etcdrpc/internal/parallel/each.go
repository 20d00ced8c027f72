// Package parallel runs functions concurrently.
package parallel

import (
	"sync"
)

// Each calls do for 0 to n-1, with at most limit calls at a time, and waits for all of them.
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
