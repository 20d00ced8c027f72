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
			now = p.due(2, false, now)
			p.sent(2, false, now)
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
			if !p.due(2, false, now).After(now) {
				p.sent(2, false, now)
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
	p.sent(2, false, start)
	now := start
	for range 20 {
		p.spend(50*ms, now)
		due := p.due(2, false, now)
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
	const cost, every = ms, 500 * ms // less than the reserve has
	var p pace
	var late, withdrawn int
	now, spent := start, time.Duration(0)
	send := func(withdraws bool) {
		p.sent(2, withdraws, now)
		p.spend(cost, now)
		if p.payer == byWithdrawals {
			spent += cost
		}
	}
	for now.Before(start.Add(100 * time.Second)) {
		if !p.due(2, false, now).After(now) {
			send(false)
		}
		if now.Sub(start)%every == 0 {
			withdrawn++
			if p.due(2, true, now).After(now) {
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
	if wait := p.due(2, true, now).Sub(now); wait != maxPacePause {
		t.Errorf("after too many, a withdrawal waits for %v, want %v", wait, maxPacePause)
	}
}

// TestK20_OneChangeUponAnother has each change come some time after the update of the one before. However many there are, each
// waits for as long as the update before it took, at the most.
func TestK20_OneChangeUponAnother(t *testing.T) {
	for _, gap := range []time.Duration{ms / 10, ms, 10 * ms} {
		var p pace
		now, cost := start, ms/4
		for i := range 10_000 {
			withdraws := i%2 == 0
			due := p.due(1, withdraws, now)
			if held := due.Sub(now); held > max(cost-gap, 0) {
				t.Fatalf("with changes %v after the last update, number %d is held for %v", gap, i, held)
			}
			p.sent(1, withdraws, due)
			now = due.Add(cost)
			p.spend(cost, now)
			now = now.Add(gap)
		}
	}
}

// TestPaceOfACrowd has changes come whatever becomes of those before. Those that come one at a time at first make no difference in
// the long run.
func TestPaceOfACrowd(t *testing.T) {
	for _, every := range []time.Duration{ms / 10, ms / 4, ms} {
		const cost, long = ms, 10 * time.Second
		var p pace
		var spent time.Duration
		changes, came := 0, start
		for now := start; now.Before(start.Add(long)); {
			for !came.After(now) {
				changes, came = changes+1, came.Add(every)
			}
			if due := p.due(changes, false, now); due.After(now) {
				now = earlier(due, came)
				continue
			}
			p.sent(changes, false, now)
			changes = 0
			now = now.Add(cost)
			p.spend(cost, now)
			spent += cost
		}
		if most := 2 * (long/changeRate.share + changeRate.burst); spent > most {
			t.Errorf("with a change every %v, updates take %v of %v, want %v at most", every, spent, long, most)
		}
	}
}

// After a crowd, changes count as made one upon another once some have come so.
func TestPaceAfterACrowd(t *testing.T) {
	var p pace
	p.sent(2, false, start)
	p.spend(time.Hour, start)
	now := start
	for i := range aloneAfter {
		if due := p.due(1, false, now); due != now.Add(maxPacePause) {
			t.Fatalf("number %d waits for %v, want %v", i, due.Sub(now), maxPacePause)
		}
		now = now.Add(maxPacePause)
		p.sent(1, false, now)
		p.spend(time.Hour, now)
	}
	p.sent(1, false, now)
	p.spend(ms, now)
	if due := p.due(1, false, now); due != now.Add(alonePause*ms) {
		t.Errorf("then one waits for %v", due.Sub(now))
	}
	if due := p.due(2, false, now); due != now.Add(maxPacePause) {
		t.Errorf("two wait for %v", due.Sub(now))
	}
}
