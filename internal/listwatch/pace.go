package listwatch

import "time"

const (
	// maxPacePause is the longest that an update waits after another.
	maxPacePause = 500 * time.Millisecond
	// alonePause is how long an update of one change waits after another, in costs of that. So they take half of a core
	// at the most.
	alonePause = 1
	// aloneAfter is how many updates of one change it takes, after one of several, for changes to count as made one upon
	// another.
	aloneAfter = 8
)

var (
	// changeRate is that of all updates.
	changeRate = rate{share: 200, burst: 3 * time.Millisecond}
	// withdrawalRate is that of updates that could not go out by changeRate, and that remove an entry:
	// until one has gone out, calls go to a server that is about to stop.
	withdrawalRate = rate{share: 400, burst: 2 * time.Millisecond}
)

// pace spaces out updates by their cost: each takes a pass over the endpoints and, on every connection,
// gRPC's work. While the budget has some time left, an update goes out at once, and its cost is taken off,
// which may leave a debt. So a change that follows another is not delayed while updates are cheap or rare,
// and a rollout costs a bounded share of a core. Withdrawals have a reserve.
//
// Where each change comes after the update of the one before, whoever makes them may well wait for that. To gather them is to no
// avail, so they wait for little more than that is worth.
//
// The zero value has full budgets.
type pace struct {
	changes     budget
	withdrawals budget // the reserve

	sentAt time.Time     // when the last update went out; zero: there was none
	payer  payer         // what it is paid from
	cost   time.Duration // what it has cost so far
	costAt time.Time     // when that last arose
	crowd  int           // updates of one change until the next may count as alone
}

// payer is what an update is paid from.
type payer int

const (
	byChanges payer = iota
	byWithdrawals
	byNone // it is alone
)

// due returns when the next update may go out, now if it may at once. It has so many changes to tell of.
func (p *pace) due(changes int, withdraws bool, now time.Time) time.Time {
	due := earlier(p.changes.due(changeRate, now), p.aloneDue(changes))
	if withdraws {
		due = earlier(due, p.withdrawals.due(withdrawalRate, now))
	}
	return later(now, earlier(due, p.sentAt.Add(maxPacePause)))
}

// aloneDue returns when an update may go out that tells of one change, a time beyond all waiting if there are more.
func (p *pace) aloneDue(changes int) time.Time {
	if changes != 1 || p.crowd > 0 {
		return p.sentAt.Add(maxPacePause)
	}
	return p.costAt.Add(alonePause * p.cost)
}

// sent notes that an update goes out.
func (p *pace) sent(changes int, withdraws bool, now time.Time) {
	switch {
	case changes == 1 && p.crowd == 0 && !p.aloneDue(1).After(now):
		p.payer = byNone
	case withdraws && p.changes.due(changeRate, now).After(now):
		p.payer = byWithdrawals
	default:
		p.payer = byChanges
	}
	if changes > 1 {
		p.crowd = aloneAfter
	} else {
		p.crowd = max(p.crowd-1, 0)
	}
	p.sentAt, p.cost = now, 0
}

// spend takes a cost of the last update, which arose at the given time, off its budget.
func (p *pace) spend(cost time.Duration, at time.Time) {
	p.cost, p.costAt = p.cost+cost, at
	switch p.payer {
	case byWithdrawals:
		p.withdrawals.take(withdrawalRate, cost, at)
	case byChanges:
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
