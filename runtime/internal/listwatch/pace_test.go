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
			{30*time.Second + 50*ms, 0, r.share*ms - 50*ms},         // to wait leaves it at that
			{30*time.Second + 50*ms - 1, 0, r.share*ms - 50*ms + 1}, // as does a clock that goes back
		} {
			now := start.Add(tt.at)
			b.take(r, tt.taken, now)
			if wait := b.due(r, now).Sub(now); wait != tt.wait {
				t.Errorf("%v, %d: at %v, after %v: there is something in %v, want %v", r, i, tt.at, tt.taken, wait, tt.wait)
			}
		}
	}
}

// paced returns a pace to which such a cost is usual.
func paced(cost time.Duration) *pace {
	p := &pace{}
	for range fewCosts {
		p.usual.add(cost)
	}
	return p
}

// TestPaceBelieves has an update cost what is usual, or what is not.
func TestPaceBelieves(t *testing.T) {
	const us = time.Microsecond
	for _, tt := range []struct {
		name    string
		usual   time.Duration
		parts   []time.Duration // as they become known
		counted time.Duration
	}{
		{"cheap", 50 * us, []time.Duration{50 * us}, 500},
		{"cheap, in parts", 50 * us, []time.Duration{30 * us, 0, 20 * us}, 500},
		{"not so cheap", 200 * us, []time.Duration{200 * us}, 32 * us},
		{"dear", 500 * us, []time.Duration{500 * us}, 500 * us},
		{"very dear", ms, []time.Duration{ms}, 4 * ms},
		{"dearer than usual", 500 * us, []time.Duration{ms}, 4 * ms},
		{"dearer than usual, in parts", 500 * us, []time.Duration{600 * us, 400 * us}, 4 * ms},
		{"hardly believed", 500 * us, []time.Duration{20 * ms}, 4 * ms},
		{"hardly believed, in parts", 500 * us, []time.Duration{20 * ms, 20 * ms}, 4 * ms},
		{"hardly believed of a cheap one", 50 * us, []time.Duration{20 * ms}, 4 * us},
		{"nothing is usual yet", 0, []time.Duration{20 * ms}, 0},
		{"beyond all bounds", time.Hour, []time.Duration{time.Hour}, changeRate.burst + maxPacePause/changeRate.share - 1},
	} {
		p := paced(tt.usual)
		p.sent(false, start)
		for _, part := range tt.parts {
			p.spend(part, start)
		}
		if p.changes.spent != tt.counted {
			t.Errorf("%s: %v counts, want %v", tt.name, p.changes.spent, tt.counted)
		}
	}
}

// TestUsual has costs become usual.
func TestUsual(t *testing.T) {
	var u usual
	for i, tt := range []struct{ cost, usual time.Duration }{
		{20, 0}, {1, 0}, {30, 0}, // a start: everybody waits for the processors
		{2, 2}, {2, 2}, {900, 2}, {2, 2}, {900, 2}, // most tell
		{9, 2}, {9, 9}, {9, 9}, {9, 9}, // the first are forgotten
		{1, 9}, {1, 9}, {1, 9}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, {5, 1}, {5, 1}, {5, 1}, {5, 1}, {5, 5},
	} {
		u.add(tt.cost)
		if got := u.median(); got != tt.usual {
			t.Errorf("%d: after %v, %v is usual, want %v", i, tt.cost, got, tt.usual)
		}
	}
}

// TestPaceShare has changes come all the time: updates take their share, and more only while they are
// cheap.
func TestPaceShare(t *testing.T) {
	for _, cost := range []time.Duration{dear / 10, dear / 2, dear, 5 * dear, 20 * dear} {
		p := paced(cost)
		const long = 100 * time.Second
		now, spent := start, time.Duration(0)
		for now.Before(start.Add(long)) {
			now = p.due(false, now)
			p.sent(false, now)
			p.spend(cost, now)
			spent += cost
		}
		share := long / changeRate.share * dear / cost * dear / cost
		limit := max(share+changeRate.burst*dear/cost*dear/cost, long/maxPacePause*cost) + 5*cost
		if spent > limit {
			t.Errorf("updates of %v take %v of %v, want at most %v", cost, spent, long, limit)
		}
		if spent < share {
			t.Errorf("updates of %v take %v of %v, though %v were to be had", cost, spent, long, share)
		}
	}
}

// TestPaceReserve has withdrawals come while changes use up their budget: they go out at once, and take no more
// than their own.
func TestPaceReserve(t *testing.T) {
	const cost, every = 2 * ms, 250 * ms // less than a share of the reserve
	p := paced(cost)
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
	for range 100 { // more than there is
		send(true)
	}
	if wait := p.due(true, now).Sub(now); wait != maxPacePause {
		t.Errorf("after too many, a withdrawal waits for %v, want %v", wait, maxPacePause)
	}
}
