package listwatch

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	var p pace
	for i, tt := range []struct {
		at, taken, wait time.Duration // wait: until the next update, after so much was taken
	}{
		{0, 0, 0},
		{0, paceBurst - 1, 0},                                   // a burst is free
		{0, 1, 1},                                               // and no more
		{0, ms, paceShare*ms + 1},                               // what is beyond it is paid with time
		{paceShare * ms, 0, 1},                                  // not quite
		{paceShare*ms + paceShare, 0, 0},                        // paid
		{10 * time.Second, paceBurst, 1},                        // rest fills the budget, to a burst at the most
		{20 * time.Second, time.Hour, maxPacePause},             // one long update is not paid for ever
		{20*time.Second + maxPacePause, 0, 1},                   // but for that long
		{20 * time.Second, 0, 1},                                // a clock that goes back changes nothing
		{30 * time.Second, paceBurst + ms, paceShare*ms + 1},    //
		{30*time.Second + 100*ms, 0, paceShare*ms - 100*ms + 1}, // to wait leaves it at that
		{30*time.Second + 100*ms + paceShare, 0, paceShare*ms - 100*ms - paceShare + 1},
	} {
		now := start.Add(tt.at)
		p.take(tt.taken, now)
		if wait := p.due(now).Sub(now); wait != tt.wait {
			t.Errorf("%d: at %v, after %v: the next is due in %v, want %v", i, tt.at, tt.taken, wait, tt.wait)
		}
	}
}

// TestPaceCounts has an update cost something after one that has cost something.
func TestPaceCounts(t *testing.T) {
	const us = time.Microsecond
	for _, tt := range []struct {
		name    string
		before  time.Duration
		parts   []time.Duration // as they become known
		counted time.Duration
	}{
		{"cheap", 50 * us, []time.Duration{50 * us}, 500},
		{"cheap, in parts", 50 * us, []time.Duration{30 * us, 0, 20 * us}, 500},
		{"not so cheap", 200 * us, []time.Duration{200 * us}, 32 * us},
		{"dear", 500 * us, []time.Duration{500 * us}, 500 * us},
		{"very dear", ms, []time.Duration{ms}, 4 * ms},
		{"dearer than before", 500 * us, []time.Duration{ms}, 4 * ms},
		{"dearer than before, in parts", 500 * us, []time.Duration{600 * us, 400 * us}, 4 * ms},
		{"hardly believed", 500 * us, []time.Duration{20 * ms}, 4 * ms},
		{"hardly believed, in parts", 500 * us, []time.Duration{20 * ms, 20 * ms}, 4 * ms},
		{"hardly believed of a cheap one", 10 * us, []time.Duration{20 * ms}, 4 * us},
		{"the first", 0, []time.Duration{20 * ms}, 4 * us},
		{"beyond all bounds", time.Hour, []time.Duration{time.Hour}, paceBurst + maxPacePause/paceShare},
	} {
		p := pace{cost: tt.before}
		p.sent()
		for _, part := range tt.parts {
			p.spend(part, start)
		}
		if p.spent != tt.counted {
			t.Errorf("%s: %v counts, want %v", tt.name, p.spent, tt.counted)
		}
	}
}

// TestPaceShare has changes come all the time: updates take their share, and more only while they are
// cheap.
func TestPaceShare(t *testing.T) {
	for _, cost := range []time.Duration{dear / 10, dear / 2, dear, 5 * dear, 20 * dear} {
		var p pace
		const long = 100 * time.Second
		now, spent := start, time.Duration(0)
		for now.Before(start.Add(long)) {
			now = p.due(now)
			p.sent()
			p.spend(cost, now)
			spent += cost
		}
		share := long / paceShare * dear / cost * dear / cost
		limit := max(share+paceBurst*dear/cost*dear/cost, long/maxPacePause*cost) + 5*cost
		if spent > limit {
			t.Errorf("updates of %v take %v of %v, want at most %v", cost, spent, long, limit)
		}
		if spent < share {
			t.Errorf("updates of %v take %v of %v, though %v were to be had", cost, spent, long, share)
		}
	}
}
