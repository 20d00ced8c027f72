package listwatch

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	for _, r := range []rate{changeRate, withdrawalRate} {
		var b budget
		for i, tt := range []struct {
			at, taken, wait time.Duration // wait: until there is something to spend, after so much was taken
		}{
			{0, 0, 0},
			{0, r.burst - 1, 0},                         // a burst is free
			{0, 1, r.share},                             // and no more
			{0, ms - 1, r.share * ms},                   // what is beyond it is paid with time
			{r.share*ms - 1, 0, 1},                      // not quite
			{r.share * ms, 0, 0},                        // paid
			{10 * time.Second, r.burst, r.share},        // rest fills the budget, to a burst at the most
			{20 * time.Second, time.Hour, maxPacePause}, // one long update is not paid for ever
			{20*time.Second + maxPacePause, 0, 0},       // but for that long
			{30 * time.Second, r.burst + ms - 1, r.share * ms},
			{30*time.Second + r.share*ms/2, 0, r.share * ms / 2},     // to wait leaves it at that
			{30*time.Second + r.share*ms/2 - 1, 0, r.share*ms/2 + 1}, // as does a clock that goes back
		} {
			now := start.Add(tt.at)
			b.take(r, tt.taken, now)
			if wait := b.due(r, now).Sub(now); wait != tt.wait {
				t.Errorf("%v, %d: at %v, after %v: there is something in %v, want %v", r, i, tt.at, tt.taken, wait, tt.wait)
			}
		}
	}
}

// TestPaceShare has changes come all the time: updates take their share.
func TestPaceShare(t *testing.T) {
	for _, cost := range []time.Duration{ms / 20, ms / 2, ms, 5 * ms, 100 * ms} {
		var p pace
		const long = 100 * time.Second
		now, spent := start, time.Duration(0)
		for now.Before(start.Add(long)) {
			now = p.due(false, now)
			p.sent(false, now)
			p.spend(cost, now)
			spent += cost
		}
		share := long / changeRate.share
		if limit := max(share+changeRate.burst, long/maxPacePause*cost) + 5*cost; spent > limit {
			t.Errorf("updates of %v take %v of %v, want at most %v", cost, spent, long, limit)
		}
		if spent < share {
			t.Errorf("updates of %v take %v of %v, though %v were to be had", cost, spent, long, share)
		}
	}
}

// TestPaceOfLateCosts has changes come faster than connections tell what the updates before have cost.
func TestPaceOfLateCosts(t *testing.T) {
	const every, long = ms, 10 * time.Second
	for _, takes := range []time.Duration{5 * ms, 20 * ms, 100 * ms} {
		var p pace
		var spent time.Duration
		var ends time.Time // of the update that a connection takes
		again := false     // it is to take another
		for now := start; now.Before(start.Add(long)); now = now.Add(every) {
			if !ends.IsZero() && !now.Before(ends) {
				p.spend(takes, now)
				spent += takes
				ends = time.Time{}
			}
			if !p.due(false, now).After(now) {
				p.sent(false, now)
				p.spend(20*time.Microsecond, now) // what the watch itself does
				again = true
			}
			if again && ends.IsZero() {
				ends, again = now.Add(takes), false
			}
		}
		if most := max(2*long/changeRate.share, (long/maxPacePause+1)*3*takes); spent > most {
			t.Errorf("updates of %v take %v of %v, want %v at most", takes, spent, long, most)
		}
	}
}

// TestPaceWaitsNoLonger has connections tell again and again of costs just before the next update may go out.
func TestPaceWaitsNoLonger(t *testing.T) {
	var p pace
	p.sent(false, start)
	now := start
	for range 20 {
		p.spend(50*ms, now)
		due := p.due(false, now)
		if !due.After(now) {
			break
		}
		now = due
	}
	if waited := now.Sub(start); waited != maxPacePause {
		t.Errorf("an update waits for %v, want %v", waited, maxPacePause)
	}
}

// TestPaceReserve has withdrawals come while changes use up their budget: they go out at once, and take no more
// than their own.
func TestPaceReserve(t *testing.T) {
	const cost, every = ms, 250 * ms // less than the reserve has
	var p pace
	var late, withdrawn int
	now, spent := start, time.Duration(0)
	send := func(withdraws bool) {
		p.sent(withdraws, now)
		p.spend(cost, now)
		if p.reserved {
			spent += cost
		}
	}
	for now.Before(start.Add(100 * time.Second)) {
		if !p.due(false, now).After(now) {
			send(false)
		}
		if now.Sub(start)%every == 0 {
			withdrawn++
			if p.due(true, now).After(now) {
				late++
			} else {
				send(true)
			}
		}
		now = now.Add(ms)
	}
	if late > 0 {
		t.Errorf("%d of %d withdrawals have to wait", late, withdrawn)
	}
	if most := 100*time.Second/withdrawalRate.share + withdrawalRate.burst; spent == 0 || spent > most {
		t.Errorf("the reserve gave %v, want something, and %v at most", spent, most)
	}
	p.changes.take(changeRate, time.Hour, now)
	for range 1000 { // more than there is
		send(true)
	}
	if wait := p.due(true, now).Sub(now); wait != maxPacePause {
		t.Errorf("after too many, a withdrawal waits for %v, want %v", wait, maxPacePause)
	}
}
