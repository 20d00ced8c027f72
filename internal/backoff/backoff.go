// Package backoff computes the pauses between retries: exponential, capped and
// jittered, so that clients do not all return to a recovered etcd at once.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Backoff yields the pauses between attempts. Set Base and Max: the zero value
// is not usable. It is not safe for concurrent use.
type Backoff struct {
	Base time.Duration // the first bound
	Max  time.Duration // the greatest bound

	next time.Duration
}

// Bound returns an upper bound for the pause before the next attempt. It starts
// at Base and doubles with each call up to Max.
func (b *Backoff) Bound() time.Duration {
	bound := min(max(b.next, b.Base), b.Max)
	b.next = min(2*bound, b.Max)

	return bound
}

// Reset makes the next bound Base again.
func (b *Backoff) Reset() {
	b.next = 0
}

// Jitter returns a random pause between half of a bound and the bound.
func Jitter(bound time.Duration) time.Duration {
	return bound/2 + rand.N(bound/2+1)
}
