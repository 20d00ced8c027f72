package picking

import (
	"cmp"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	// steps is in how many steps a share grows. In a short window there are fewer, for a step takes minStep at least.
	steps   = 100
	minStep = 50 * time.Millisecond
	// shareUnits is the full share, in the unit in which weights are scaled by shares.
	shareUnits = 10_000
)

// start is the slow start of an address. It is immutable.
type start struct {
	says  string        // when its server started, as its entry says
	known bool          // says is a time, so since and ran are meant
	since time.Duration // when it was first seen ready after that start, since epoch
	ran   time.Duration // how long its server had run by then, if the clocks agree
}

// share returns the part of its weight that an address has at now, at most 1, and whether that still grows.
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

// stepOf returns how long shares stay as they are.
func stepOf(of *serviceconfig.SlowStart) time.Duration {
	return max(minStep, time.Duration(of.Window)/steps)
}
