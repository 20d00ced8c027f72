package backoff

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{Base: 100 * time.Millisecond, Max: time.Second}
	bounds := []time.Duration{100, 200, 400, 800, 1000, 1000, 1000}
	for range 2 {
		for i, bound := range bounds {
			bound *= time.Millisecond
			if got := Jitter(b.Bound()); got < bound/2 || got > bound {
				t.Errorf("pause %d is %v, want between %v and %v", i, got, bound/2, bound)
			}
		}

		b.Reset()
	}
}
