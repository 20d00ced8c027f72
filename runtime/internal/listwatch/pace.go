package listwatch

import "time"

const (
	// paceShare is the part of wall time that updates may take in the long run: one in so many.
	paceShare = 250
	// paceBurst is the time that updates may take at once.
	paceBurst = 8 * time.Millisecond
	// maxPacePause is the longest that pacing delays an update.
	maxPacePause = 500 * time.Millisecond
	// dear is the cost of an update that counts as what it is: half of it counts as an eighth, and twice
	// as much as eight times.
	dear = 500 * time.Microsecond
	// maxCost is a cost from which on all count alike.
	maxCost = 20 * time.Millisecond
	// plausible is a cost that is believed whatever the update before cost.
	plausible = 100 * time.Microsecond
)

// pace spaces out updates by their cost: each takes a pass over the endpoints and, on every connection,
// gRPC's work. It is a budget of time that refills at a share of wall time, up to a burst. While some is
// left, an update goes out at once, and its cost is taken off, which may leave a debt. So a change that
// follows another is not delayed while updates are cheap, and a rollout costs a bounded share of a core.
// The zero value has a full burst.
//
// The cheaper an update, the smaller the part of its cost that counts: an update that costs less than
// hearing of the change is not what makes a rollout expensive, and one that costs much more is.
//
// A cost is measured by the clock, so it includes whatever else the machine did meanwhile. If it is far
// above the cost of the update before, only a part of it is believed.
type pace struct {
	spent time.Duration // of the burst, at the time at; beyond paceBurst it is a debt
	at    time.Time

	cost   time.Duration // of the last update, as far as known
	before time.Duration // the cost of the update before it
}

// sent notes that an update goes out.
func (p *pace) sent() { p.before, p.cost = p.cost, 0 }

// spend adds to the cost of the last update, which arose at the given time, and takes it off the budget.
func (p *pace) spend(cost time.Duration, at time.Time) {
	counted := p.counted()
	p.cost += cost
	p.take(p.counted()-counted, at)
}

// take takes a time off the budget.
func (p *pace) take(d time.Duration, at time.Time) {
	p.refill(at)
	p.spent = min(p.spent+d, paceBurst+maxPacePause/paceShare)
}

// counted returns the part of the last update's cost that counts.
func (p *pace) counted() time.Duration {
	believed := min(p.cost, max(2*p.before, plausible), maxCost)
	return believed * believed / dear * believed / dear
}

// due returns when the next update may go out: now if it may at once.
func (p *pace) due(now time.Time) time.Time {
	p.refill(now)
	debt := p.spent - paceBurst
	if debt < 0 {
		return now
	}
	return now.Add(min(debt*paceShare+1, maxPacePause))
}

func (p *pace) refill(now time.Time) {
	refill := max(0, now.Sub(p.at)/paceShare)
	if refill >= p.spent {
		p.spent, p.at = 0, now
		return
	}
	p.spent -= refill
	p.at = p.at.Add(refill * paceShare) // the rest counts next time
}
