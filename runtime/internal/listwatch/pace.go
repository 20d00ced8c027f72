package listwatch

import (
	"slices"
	"time"
)

const (
	// maxPacePause is the longest that pacing delays an update.
	maxPacePause = 500 * time.Millisecond
	// dear is the cost of an update that counts as what it is: half of it counts as an eighth, and twice
	// as much as eight times.
	dear = 500 * time.Microsecond
	// maxCost is a cost from which on all count alike.
	maxCost = 20 * time.Millisecond
)

var (
	// changeRate is that of all updates.
	changeRate = rate{share: 250, burst: 8 * time.Millisecond}
	// withdrawalRate is that of updates that could not go out by changeRate, and that remove an entry:
	// until one has gone out, calls go to a server that is about to stop.
	withdrawalRate = rate{share: 100, burst: 20 * time.Millisecond}
)

// pace spaces out updates by their cost: each takes a pass over the endpoints and, on every connection,
// gRPC's work. While the budget has some time left, an update goes out at once, and its cost is taken off,
// which may leave a debt. So a change that follows another is not delayed while updates are cheap, and a
// rollout costs a bounded share of a core. Withdrawals have a reserve. The zero value has full budgets.
//
// The cheaper an update, the smaller the part of its cost that counts: an update that costs less than
// hearing of the change is not what makes a rollout expensive, and one that costs much more is. The reserve
// is charged in full.
//
// A cost is measured by the clock, so it includes whatever else the machine did meanwhile. No more than
// twice the usual cost is believed, and nothing while it is not known what is usual.
type pace struct {
	changes     budget
	withdrawals budget // the reserve
	reserved    bool   // the last update is paid from the reserve

	cost  time.Duration // of the last update, as far as known
	usual usual         // the costs of those before it
}

// due returns when the next update may go out: now if it may at once.
func (p *pace) due(withdraws bool, now time.Time) time.Time {
	due := p.changes.due(changeRate, now)
	if withdraws {
		due = earlier(due, p.withdrawals.due(withdrawalRate, now))
	}
	return due
}

// sent notes that an update goes out.
func (p *pace) sent(withdraws bool, now time.Time) {
	if p.cost > 0 {
		p.usual.add(p.cost)
		p.cost = 0
	}
	p.reserved = withdraws && p.changes.due(changeRate, now).After(now)
}

// spend adds to the cost of the last update, which arose at the given time, and takes it off its budget.
func (p *pace) spend(cost time.Duration, at time.Time) {
	before := p.believed()
	p.cost += cost
	believed := p.believed()
	if p.reserved {
		p.withdrawals.take(withdrawalRate, believed-before, at)
	} else {
		p.changes.take(changeRate, counted(believed)-counted(before), at)
	}
}

// believed returns the part of the last update's cost that the update is taken to have caused.
func (p *pace) believed() time.Duration { return min(p.cost, 2*p.usual.median(), maxCost) }

// counted returns the part of a cost that counts.
func counted(cost time.Duration) time.Duration { return cost * cost / dear * cost / dear }

// rate bounds what updates take: one part in share of wall time in the long run, and burst at once.
type rate struct{ share, burst time.Duration }

// budget is a time to spend at a rate. The zero value has a full burst.
type budget struct {
	spent time.Duration // of the burst, at the time at; beyond it is a debt
	at    time.Time
}

// take takes a time off the budget.
func (b *budget) take(r rate, d time.Duration, at time.Time) {
	b.refill(r, at)
	b.spent = min(b.spent+d, r.burst-1+maxPacePause/r.share)
}

// due returns when there is something to spend.
func (b *budget) due(r rate, now time.Time) time.Time {
	b.refill(r, now)
	missing := b.spent + 1 - r.burst
	if missing <= 0 {
		return now
	}
	return b.at.Add(missing * r.share)
}

func (b *budget) refill(r rate, now time.Time) {
	refill := max(0, now.Sub(b.at)/r.share)
	if refill >= b.spent {
		b.spent, b.at = 0, now
		return
	}
	b.spent -= refill
	b.at = b.at.Add(refill * r.share) // the rest counts next time
}

// fewCosts is how many costs do not tell yet what is usual: those of a process that starts, say, whose
// processors everybody waits for.
const fewCosts = 4

// usual holds the last costs.
type usual struct {
	costs [8]time.Duration
	n     int // costs added
}

func (u *usual) add(cost time.Duration) {
	u.costs[u.n%len(u.costs)] = cost
	u.n++
}

// median returns the usual cost, 0 while too few are known.
func (u *usual) median() time.Duration {
	if u.n < fewCosts {
		return 0
	}
	costs := u.costs
	known := costs[:min(u.n, len(costs))]
	slices.Sort(known)
	return known[(len(known)-1)/2]
}
