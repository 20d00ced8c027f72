package descriptors

import "time"

const (
	burst = 100                    // attempts that may be made at once
	every = 100 * time.Millisecond // after that, one in each such time
)

// pace spaces the attempts to reach what has failed, over a whole service: a thousand dead entries, or servers
// that take connections and end them, cost no more than a few. An endpoint's first connection is not counted, and
// neither is one that lasted.
type pace struct {
	full time.Time // when all of burst may be made at once again
}

// turn returns when the next attempt may be made.
func (p *pace) turn() time.Time { return p.full.Add(-(burst - 1) * every) }

// ready reports whether an attempt may be made now.
func (p *pace) ready(now time.Time) bool { return !now.Before(p.turn()) }

// take counts an attempt.
func (p *pace) take(now time.Time) {
	if p.full.Before(now) {
		p.full = now
	}
	p.full = p.full.Add(every)
}

// giveBack uncounts an attempt, which succeeded.
func (p *pace) giveBack() { p.full = p.full.Add(-every) }
