package listwatch

import "time"

// maxPacePause is the longest that an update waits after another.
const maxPacePause = 500 * time.Millisecond

var (
	// changeRate is that of all updates.
	changeRate = rate{share: 50, burst: 15 * time.Millisecond}
	// withdrawalRate is that of updates that could not go out by changeRate, and that remove an entry:
	// until one has gone out, calls go to a server that is about to stop.
	withdrawalRate = rate{share: 200, burst: 5 * time.Millisecond}
)

// pace spaces out updates by their cost: each takes a pass over the endpoints and, on every connection,
// gRPC's work. While the budget has some time left, an update goes out at once, and its cost is taken off,
// which may leave a debt. So a change that follows another is not delayed while updates are cheap or rare,
// and a rollout costs a bounded share of a core. Withdrawals have a reserve. The zero value has full budgets.
type pace struct {
	changes     budget
	withdrawals budget // the reserve

	sentAt   time.Time // when the last update went out; zero: there was none
	reserved bool      // it is paid from the reserve
}

// due returns when the next update may go out: now if it may at once.
func (p *pace) due(withdraws bool, now time.Time) time.Time {
	due := p.changes.due(changeRate, now)
	if withdraws {
		due = earlier(due, p.withdrawals.due(withdrawalRate, now))
	}
	return later(now, earlier(due, p.sentAt.Add(maxPacePause)))
}

// sent notes that an update goes out.
func (p *pace) sent(withdraws bool, now time.Time) {
	p.reserved = withdraws && p.changes.due(changeRate, now).After(now)
	p.sentAt = now
}

// spend takes a cost of the last update, which arose at the given time, off its budget.
func (p *pace) spend(cost time.Duration, at time.Time) {
	if p.reserved {
		p.withdrawals.take(withdrawalRate, cost, at)
	} else {
		p.changes.take(changeRate, cost, at)
	}
}

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
