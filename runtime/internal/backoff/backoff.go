// Package backoff spaces out retries: exponential, capped and jittered, so that a fleet whose etcd
// went away does not come back to it in step.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff yields the pauses between attempts. The zero value is not usable: set Base and Max. It
// is not safe for concurrent use.
type Backoff struct {
	Base time.Duration // the first pause, before jitter
	Max  time.Duration // no pause is longer, jitter included

	next time.Duration
}

// Next returns the pause before the next attempt: between half and all of a bound that starts at
// Base and doubles with each call up to Max.
func (b *Backoff) Next() time.Duration {
	bound := max(b.next, b.Base)
	bound = min(bound, b.Max)
	b.next = min(2*bound, b.Max)
	return bound/2 + rand.N(bound/2+1)
}

// Reset makes the next pause start at Base again.
func (b *Backoff) Reset() { b.next = 0 }
