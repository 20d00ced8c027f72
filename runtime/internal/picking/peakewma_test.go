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
		{"the first latency is the estimate", 0, 5 * ms, time.Hour, 5 * ms, 5 * ms},
		{"a higher latency raises the estimate soon", 5 * ms, 50 * ms, 100 * time.Millisecond,
			33 * ms, 34 * ms},
		{"a higher latency raises the estimate at once if calls are rare", 5 * ms, 50 * ms,
			time.Second, 49.9 * ms, 50 * ms},
		{"a lower latency lowers the estimate slowly", 50 * ms, 5 * ms, time.Second, 45 * ms,
			46 * ms},
		{"a lower latency lowers the estimate by two thirds in ten seconds", 50 * ms, 5 * ms,
			decay, 21 * ms, 22 * ms},
		{"a latency of 0 counts as 1 ns", 0, 0, 0, 1, 1},
	} {
		got := nextLatency(tt.before, tt.took, tt.since)
		if got < tt.least || got > tt.most {
			t.Errorf("%s: nextLatency(%v, %v, %v) = %v, want %v to %v", tt.what, tt.before,
				tt.took, tt.since, got, tt.least, tt.most)
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
			t.Errorf("after %d further calls with failed=%v, failing is %v, want %v", tt.calls,
				tt.fail, failing, tt.want)
		}
	}
}

func TestPeak_CodesThatCountAsFailures(t *testing.T) {
	for code := codes.OK; code <= codes.Unauthenticated; code++ {
		var p peak
		p.end(time.Millisecond, time.Second, nil)
		p.end(time.Millisecond, time.Second, status.Error(code, ""))

		want := map[codes.Code]bool{
			codes.Unknown:           true,
			codes.DeadlineExceeded:  true,
			codes.ResourceExhausted: true,
			codes.Unimplemented:     true,
			codes.Internal:          true,
			codes.Unavailable:       true,
			codes.DataLoss:          true,
			codes.Unauthenticated:   true,
		}[code]
		if got := loadFloat(&p.failing) > 0; got != want {
			t.Errorf("a call that ends with %v counts as failed: %v, want %v", code, got, want)
		}
	}

	var p peak
	p.end(10*time.Millisecond, time.Second, nil)
	p.end(time.Microsecond, time.Hour, status.Error(codes.Unavailable, ""))
	p.end(time.Microsecond, time.Hour, status.Error(codes.Canceled, ""))

	if got := loadFloat(&p.latency); got != float64(10*time.Millisecond) {
		t.Errorf("after a call that failed fast, the latency is %v, want it unchanged at 10ms",
			time.Duration(got))
	}

	var neverSent Stats
	neverSent.Begin(0)
	neverSent.End(true, false)(balancer.DoneInfo{})

	if neverSent.UnderWay() != 0 || loadFloat(&neverSent.peak.latency) != 0 {
		t.Errorf("after a call that was never sent, %d calls are under way, and the latency is %v, want 0 and 0",
			neverSent.UnderWay(), loadFloat(&neverSent.peak.latency))
	}

	p.end(time.Second, 2*time.Hour, status.Error(codes.Canceled, ""))

	if got := loadFloat(&p.latency); got < float64(time.Second/2) {
		t.Errorf("after a call that was canceled after 1s, the latency is %v, want at least 500ms",
			time.Duration(got))
	}

	failing := loadFloat(&p.failing)
	p.end(time.Second, 3*time.Hour, status.Error(codes.Canceled, ""))
	still := loadFloat(&p.failing)
	p.end(time.Second, 4*time.Hour, nil)

	if failing == 0 || still != failing || loadFloat(&p.failing) >= failing {
		t.Errorf("failing is %v, then %v after a canceled call, want it unchanged, and then %v after a successful call, want less",
			failing, still, loadFloat(&p.failing))
	}
}

func TestPeak_Picks(t *testing.T) {
	set := setOf(peakEwma{}, nil, 1, 1)
	now := time.Hour
	a := &set.members[0].peak
	b := &set.members[1].peak
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
		t.Errorf("an endpoint of unknown latency gets %d of 100 picks, want some but not all",
			100-n)
	}

	set.members[0].calls.Store(3)

	if n := picks(); n != 0 {
		t.Errorf("the endpoint with more calls under way gets %d of 100 picks, want 0", n)
	}

	b.end(10*time.Millisecond, now, nil)

	if n := picks(); n != 100 {
		t.Errorf("the faster endpoint gets %d of 100 picks, want 100", n)
	}

	now += retryAfter + 1
	a.picked.Store(int64(now))

	if n := picks(); n != 99 {
		t.Errorf("after a second without a call, the slow endpoint gets %d test calls, want 1",
			100-n)
	}

	if a.retry(now+2*retryAfter, 1) ||
		!a.retry(now+2*retryAfter, retryOneIn) ||
		a.retry(now+2*retryAfter, retryOneIn) {
		t.Error("three calls of retry did not return false, true, false: want one test call, for a multiple of retryOneIn")
	}
}

// TestPeak_StreamsAreNotTimed ends a stream after an hour. Under both policies,
// its server then gets as many calls as the other server. After a failed
// stream, it gets few under peakEwma.
func TestPeak_StreamsAreNotTimed(t *testing.T) {
	for _, policy := range []Policy{leastRequest{2}, peakEwma{}} {
		set := setOf(policy, nil, 1, 1)
		stream := func(err error) (first int) {
			x := set.members[0]
			x.Begin(0)
			x.peak.picked.Store(int64(-time.Hour))
			x.End(policy.Traits().Times, true)(balancer.DoneInfo{Err: err, BytesReceived: true})

			for _, x := range set.members {
				x.peak.end(time.Millisecond, sinceEpoch(), nil)
				x.peak.picked.Store(int64(sinceEpoch()))
			}

			for range 1000 {
				if policy.Pick(t.Context(), nil, set) == 0 {
					first++
				}
			}

			return first
		}
		if n := stream(nil); n < 350 || n > 650 {
			t.Errorf("%T: after a stream of an hour, its server gets %d of 1000 calls, want half",
				policy, n)
		}

		n := stream(status.Error(codes.Unavailable, ""))
		if policy.Traits().Times && n > 350 {
			t.Errorf("after a stream that failed, its server gets %d of 1000 calls, want few", n)
		}
	}
}

// TestPeak_WhileAllStart has only new endpoints, as after a deployment. One of
// them fails, is slow, or hangs (P15).
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
			t.Errorf("the endpoint that %s gets %d of 5000 calls, want at most 50", what, bad)
		}
	}
}
