package picking

import (
	"cmp"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	// steps is the number of steps in which a share grows. A short window has fewer: a step takes at least minStep.
	steps   = 100
	minStep = 50 * time.Millisecond
	// shareUnits is the full share, in the unit for scaling weights.
	shareUnits = 10_000
)

// start is the slow start of an address. It is immutable.
type start struct {
	says  string        // the start time of its server, as in its entry
	known bool          // says is a valid time, so since and ran are set
	since time.Duration // when it was first ready after that start, since epoch
	ran   time.Duration // how long its server had run by then, if the clocks agree
}

// share returns the share of an address at now, at most 1, and whether it still grows.
func (s *start) share(of *serviceconfig.SlowStart, now time.Duration) (share float64, grows bool) {
	if s == nil || of == nil {
		return 1, false
	}
	window, age := time.Duration(of.Window), now-s.since
	if !s.known || s.ran > window || age >= window {
		return 1, false
	}
	from := float64(cmp.Or(of.MinPercent, serviceconfig.DefaultSlowStartPercent)) / 100
	return from + (1-from)*max(0, float64(age))/float64(window), true
}

// stepOf returns the duration of a step.
func stepOf(of *serviceconfig.SlowStart) time.Duration {
	return max(minStep, time.Duration(of.Window)/steps)
}
