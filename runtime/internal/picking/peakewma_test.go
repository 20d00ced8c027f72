package picking

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// simulated is a set of backends that callers call without a break, in virtual time.
type simulated struct {
	set   *Set
	now   time.Duration
	ends  []callEnd
	calls []int
	serve func(backend int) (took time.Duration, err error)
}

type callEnd struct {
	at   time.Duration
	done func()
}

func (s *simulated) call() {
	i := s.set.cheapest(s.now)
	took, err := s.serve(i)
	x := s.set.members[i]
	x.Begin(0)
	s.calls[i]++
	s.ends = append(s.ends, callEnd{s.now + took, func() {
		x.calls.Add(-1)
		x.peak.end(took, s.now, err)
	}})
}

// run has more callers call, until some calls have ended.
func (s *simulated) run(callers, calls int) {
	for range callers {
		s.call()
	}
	for range calls {
		first := 0
		for i := range s.ends {
			if s.ends[i].at < s.ends[first].at {
				first = i
			}
		}
		e := s.ends[first]
		s.ends = slices.Delete(s.ends, first, first+1)
		s.now = e.at
		e.done()
		s.call()
	}
}

// percent returns how many of the calls go to the first n backends.
func (s *simulated) percent(n int) float64 {
	var to, all int
	for i, calls := range s.calls {
		if all += calls; i < n {
			to += calls
		}
	}
	return 100 * float64(to) / float64(all)
}

var errOfHandler = errors.New("the handler's own")

// TestPeak_SomeErrAtOnce simulates backends that return an error at once: they get fewer calls than by round_robin (H3). One that recovers
// gets its share again.
func TestPeak_SomeErrAtOnce(t *testing.T) {
	for _, tt := range []struct{ err, of, callers int }{{1, 2, 1}, {1, 2, 64}, {1, 2, 1500}, {1, 4, 64}, {2, 4, 1}, {2, 4, 64}, {3, 4, 64}, {4, 4, 64}} {
		s, mended := simulated{set: setOf(peakEwma{}, nil, make([]uint32, tt.of)...), calls: make([]int, tt.of)}, false
		s.serve = func(i int) (time.Duration, error) {
			if i < tt.err && !mended {
				return 100 * time.Microsecond, errOfHandler
			}
			return 10 * time.Millisecond, nil
		}
		s.run(tt.callers, 20_000)
		got, even := s.percent(tt.err), float64(100*tt.err/tt.of)
		if got > even || tt.err == 1 && got > 10 {
			t.Errorf("%d of %d err, %d callers: they get %.0f %% of the calls", tt.err, tt.of, tt.callers, got)
		}
		if tt.callers > 64 {
			continue // it would take millions of calls
		}
		mended = true
		for until := s.now + 15*retryAfter; s.now < until; {
			s.run(0, 1)
		}
		s.calls = make([]int, tt.of)
		s.run(0, 10_000)
		if got := s.percent(tt.err); math.Abs(got-even) > 10 {
			t.Errorf("%d of %d have erred, %d callers: mended, they get %.0f %% of the calls", tt.err, tt.of, tt.callers, got)
		}
	}
}

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
		{"one of very many says little", 5 * ms, 50 * ms, 10 * time.Microsecond, 5 * ms, 5.01 * ms},
		{"a faster one is believed slowly", 50 * ms, 5 * ms, time.Second, 45 * ms, 46 * ms},
		{"... in ten seconds by two thirds", 50 * ms, 5 * ms, decay, 21 * ms, 22 * ms},
		{"time does not go back", 50 * ms, 5 * ms, -time.Second, 50 * ms, 50 * ms},
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

func TestPeak_WhatCountsAsSlow(t *testing.T) {
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
		t.Errorf("a long call that its caller gave up leaves the latency at %v", time.Duration(got))
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
		t.Errorf("one whose latency is not known is picked %d times of 100", 100-n)
	}
	set.members[0].calls.Store(3)
	if n := picks(); n != 0 {
		t.Errorf("%d of 100 picks are of the one with more calls under way", n)
	}
	b.end(10*time.Millisecond, now, nil)
	if n := picks(); n != 100 {
		t.Errorf("%d of 100 picks are of the faster one", n)
	}
	now += retryAfter + 1
	a.picked.Store(int64(now))
	if n := picks(); n != 99 {
		t.Errorf("after a second without a call, the slow one is tried %d times, want 1", 100-n)
	}
	if a.retry(now+2*retryAfter, 1) || !a.retry(now+2*retryAfter, retryOneIn) || a.retry(now+2*retryAfter, retryOneIn) {
		t.Error("one in ten calls is to try what was quiet, once")
	}
}

// TestPeak_WhileAllStart has all endpoints be new, as after a deployment, and one of them fail, be slow, or not answer (P15).
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
			set.starts(i, now)
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
