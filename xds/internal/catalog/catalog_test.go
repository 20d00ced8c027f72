package catalog

import (
	"testing"
	"testing/synctest"
	"time"
)

// Under changes without end, a host is mapped for a tenth of the time.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h throttle
		mapped, changed := 0, make(chan struct{}, 1)
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
			if h.wait(func() { changed <- struct{}{} }) {
				<-changed
			}
			began := time.Now()
			time.Sleep(40 * time.Millisecond) // of mapping 20,000 endpoints
			h.spent(began)
			mapped++
		}
		if mapped != 26 {
			t.Errorf("%d mappings of 40 ms in 10 s, want 26", mapped)
		}
	})
}
