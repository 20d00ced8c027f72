package picking

import (
	"math"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestPeak_Estimates(t *testing.T) {
	const ms = float64(time.Millisecond)
	for _, tt := range []struct {
		what         string
		before, took float64
		since        time.Duration
		least, most  float64
	}{
		{"the first call counts as it is", 0, 5 * ms, time.Hour, 5 * ms, 5 * ms},
		{"a slower one is believed within moments", 5 * ms, 50 * ms, 100 * time.Millisecond, 33 * ms, 34 * ms},
		{"... and where calls are rare, at once", 5 * ms, 50 * ms, time.Second, 49.9 * ms, 50 * ms},
		{"a faster one is believed slowly", 50 * ms, 5 * ms, time.Second, 45 * ms, 46 * ms},
		{"... in ten seconds by two thirds", 50 * ms, 5 * ms, decay, 21 * ms, 22 * ms},
		{"no call takes no time", 0, 0, 0, 1, 1},
	} {
		if got := nextLatency(tt.before, tt.took, tt.since); got < tt.least || got > tt.most {
			t.Errorf("%s: %v, want %v to %v", tt.what, got, tt.least, tt.most)
		}
	}
	failing := 0.0
	for _, tt := range []struct {
		calls int
		fail  bool
		want  float64
	}{{1, true, 0.5}, {99, true, 1 - minHealth}, {1, false, (1 - minHealth) / 2}, {10, false, 0}} {
		for range tt.calls {
			failing = nextFailing(failing, tt.fail)
		}
		if math.Abs(failing-tt.want) > 1e-12 {
			t.Errorf("after %d more that fail, %v: %v, want %v", tt.calls, tt.fail, failing, tt.want)
		}
	}
}

func TestPeak_CodesThatCountAsFailures(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		var p peak
		p.end(time.Millisecond, time.Second, nil)
		p.end(time.Millisecond, time.Second, status.Error(code, ""))
		want := map[codes.Code]bool{
			codes.Unknown: true, codes.DeadlineExceeded: true, codes.ResourceExhausted: true, codes.Unimplemented: true,
			codes.Internal: true, codes.Unavailable: true, codes.DataLoss: true, codes.Unauthenticated: true,
		}[code]
		if got := loadFloat(&p.failing) > 0; got != want {
			t.Errorf("%v: %v", code, got)
		}
	}
	var p peak
	p.end(10*time.Millisecond, time.Second, nil)
	p.end(time.Microsecond, time.Hour, status.Error(codes.Unavailable, ""))
	p.end(time.Microsecond, time.Hour, status.Error(codes.Canceled, ""))
	if got := loadFloat(&p.latency); got != float64(10*time.Millisecond) {
		t.Errorf("a call that fails at once leaves the latency at %v", time.Duration(got))
	}
	var neverSent Stats
	neverSent.Begin(0)
	if neverSent.End(true)(balancer.DoneInfo{}); neverSent.UnderWay() != 0 || loadFloat(&neverSent.peak.latency) != 0 {
		t.Error("a call that was never sent counts")
	}
	p.end(time.Second, 2*time.Hour, status.Error(codes.Canceled, ""))
	if got := loadFloat(&p.latency); got < float64(time.Second/2) {
		t.Errorf("a long canceled call leaves the latency at %v", time.Duration(got))
	}
	failing := loadFloat(&p.failing)
	p.end(time.Second, 3*time.Hour, status.Error(codes.Canceled, ""))
	still := loadFloat(&p.failing)
	if p.end(time.Second, 4*time.Hour, nil); failing == 0 || still != failing || loadFloat(&p.failing) >= failing {
		t.Errorf("failing %v, then %v after a canceled call, %v after one that succeeds", failing, still, loadFloat(&p.failing))
	}
}

func TestPeak_Picks(t *testing.T) {
	set, now := setOf(peakEwma{}, nil, 1, 1), time.Hour
	a, b := &set.members[0].peak, &set.members[1].peak
	a.picked.Store(int64(now))
	b.picked.Store(int64(now))
	picks := func() (first int) {
		for range 100 {
			if set.cheapest(now) == 0 {
				first++
			}
		}
		return first
	}
	a.end(time.Millisecond, now, nil)
	if n := picks(); n == 0 || n == 100 {
		t.Errorf("an endpoint of unknown latency is picked %d times of 100", 100-n)
	}
	set.members[0].calls.Store(3)
	if n := picks(); n != 0 {
		t.Errorf("%d of 100 picks are the endpoint with more calls under way", n)
	}
	b.end(10*time.Millisecond, now, nil)
	if n := picks(); n != 100 {
		t.Errorf("%d of 100 picks are the faster endpoint", n)
	}
	now += retryAfter + 1
	a.picked.Store(int64(now))
	if n := picks(); n != 99 {
		t.Errorf("after a second without a call, the slow one is tried %d times, want 1", 100-n)
	}
	if a.retry(now+2*retryAfter, 1) || !a.retry(now+2*retryAfter, retryOneIn) || a.retry(now+2*retryAfter, retryOneIn) {
		t.Error("one in ten calls must test the unused endpoint, once")
	}
}

// TestPeak_WhileAllStart has only new endpoints, as after a deployment, and one fails, is slow, or does not answer (P15).
func TestPeak_WhileAllStart(t *testing.T) {
	for what, end := range map[string]func(x *Stats, now time.Duration){
		"fails": func(x *Stats, now time.Duration) {
			x.peak.end(time.Millisecond, now, status.Error(codes.Unavailable, ""))
		},
		"is slow": func(x *Stats, now time.Duration) { x.peak.end(10*time.Millisecond, now, nil) },
		"hangs":   func(x *Stats, _ time.Duration) { x.Begin(0) },
	} {
		now := time.Hour
		set := setOf(peakEwma{}, window(10*time.Minute, 10), 1, 1, 1, 1, 1)
		for i := range set.members {
			set.startMember(i, now)
		}
		bad := 0
		for range 5000 {
			now += 100 * time.Microsecond
			i := set.cheapest(now)
			if x := set.members[i]; i == 0 {
				bad++
				end(x, now)
			} else {
				x.peak.end(time.Millisecond, now, nil)
			}
		}
		if bad > 50 {
			t.Errorf("%d of 5000 calls go to the one that %s", bad, what)
		}
	}
}
