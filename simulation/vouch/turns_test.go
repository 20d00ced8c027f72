package vouch

import (
	"fmt"
	"iter"
	"sync"
	"testing"
)

// waiting counts the tests that wait for etcd's clocks.
var waiting sync.WaitGroup

// waits runs a test beside all others that wait for etcd's clocks more than they work. A machine that is busy would spoil
// what they see.
func waits(t *testing.T) {
	waiting.Add(1) // before any test that runs beside others goes on
	t.Cleanup(waiting.Done)
	t.Parallel()
}

// works runs a test beside all others that keep the machine busy, after those that wait.
func works(t *testing.T) {
	t.Parallel()
	waiting.Wait()
}

// divide has groups of those seeds played side by side, each to an etcd and a model of its own.
func divide(t *testing.T, groups, oneIn int, play func(*testing.T, iter.Seq[uint64])) {
	works(t)
	for group := range groups {
		t.Run(fmt.Sprint(group), func(t *testing.T) {
			t.Parallel()
			play(t, func(yield func(uint64) bool) {
				for seed := range seeds(oneIn) {
					if (seed-*first)%uint64(groups) == uint64(group) && !yield(seed) {
						return
					}
				}
			})
		})
	}
}
