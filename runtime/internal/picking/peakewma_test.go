package picking

import (
	"container/heap"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// simulated is a set of backends that callers call without a break, in virtual time.
type simulated struct {
	random *rand.Rand
	now    time.Duration
	ends   callEnds
	took   []time.Duration
	calls  []int
	serve  func(backend int) time.Duration
	fails  func(backend int) bool // nil: no call fails
	pick   func() (backend int, done func())
}

type simulatedEnd struct {
	at   time.Duration
	done func()
}

type callEnds []simulatedEnd

func (e callEnds) Len() int           { return len(e) }
func (e callEnds) Less(i, j int) bool { return e[i].at < e[j].at }
func (e callEnds) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *callEnds) Push(x any)        { *e = append(*e, x.(simulatedEnd)) }
func (e *callEnds) Pop() any          { x := (*e)[len(*e)-1]; *e = (*e)[:len(*e)-1]; return x }

func (s *simulated) call() {
	i, done := s.pick()
	took := s.serve(i)
	s.took = append(s.took, took)
	s.calls[i]++
	heap.Push(&s.ends, simulatedEnd{s.now + took, done})
}

func (s *simulated) run(callers, calls int) {
	for range callers {
		s.call()
	}
	for range calls {
		e := heap.Pop(&s.ends).(simulatedEnd)
		s.now = e.at
		e.done()
		s.call()
	}
}

func (s *simulated) p99() time.Duration {
	slices.Sort(s.took)
	return s.took[len(s.took)*99/100]
}

// outcome returns the error of a call to a backend.
func (s *simulated) outcome(backend int) error {
	if s.fails == nil || !s.fails(backend) {
		return nil
	}
	return errors.New("the handler's own")
}

// roundRobin, goZero and peakEwma have the backends picked as these policies do.
func (s *simulated) roundRobin(n int) {
	i := 0
	s.pick = func() (int, func()) { i++; return i % n, func() {} }
}

func (s *simulated) goZero(n int) {
	type conn struct {
		lag, underWay float64
		last, picked  time.Duration
	}
	conns := make([]conn, n)
	load := func(c *conn) float64 { return math.Floor(math.Sqrt(c.lag+1)) * (c.underWay + 1) }
	s.pick = func() (int, func()) {
		i, j := s.random.IntN(n), s.random.IntN(n-1)
		if j >= i {
			j++
		}
		if load(&conns[i]) > load(&conns[j]) {
			i, j = j, i
		}
		if s.now-conns[j].picked > time.Second {
			i = j
		}
		c, began := &conns[i], s.now
		c.picked = began
		c.underWay++
		return i, func() {
			c.underWay--
			left := math.Exp(-float64(s.now-c.last) / float64(10*time.Second))
			if c.last = s.now; c.lag == 0 {
				left = 0
			}
			c.lag = c.lag*left + float64(s.now-began)*(1-left)
		}
	}
}

// peakEwma has set, of n, picked from.
func (s *simulated) peakEwma(set *Set) {
	s.pick = func() (int, func()) {
		i, began := set.cheapest(s.now), s.now
		x := set.members[i]
		x.Begin(0)
		return i, func() {
			x.calls.Add(-1)
			x.peak.end(s.now-began, s.now, s.outcome(i))
		}
	}
}

// TestOneSlowBackend has 200 callers call five backends of which one is ten times as slow. Calls take more or less
// time, and one in a thousand meets a pause.
func TestOneSlowBackend(t *testing.T) {
	const n = 5
	p99 := make(map[string]time.Duration)
	for name, policy := range map[string]func(*simulated, int){
		"round robin": (*simulated).roundRobin, "go-zero": (*simulated).goZero,
		"peak ewma": func(s *simulated, n int) { s.peakEwma(setOf(peakEwma{}, nil, make([]uint32, n)...)) },
	} {
		s := &simulated{random: rand.New(rand.NewPCG(1, 2)), calls: make([]int, n)}
		s.serve = func(i int) time.Duration {
			took := float64(2*time.Millisecond) * math.Exp(s.random.NormFloat64()/2)
			if i == 0 {
				took *= 10
			}
			if s.random.IntN(1000) == 0 {
				took += float64(30 * time.Millisecond)
			}
			return time.Duration(took)
		}
		policy(s, n)
		s.run(200, 20_000)
		s.took, s.calls = nil, make([]int, n)
		s.run(0, 60_000)
		p99[name] = s.p99()
		t.Logf("%s: p99 %v, %.2f%% of the calls at the slow one", name, p99[name], float64(s.calls[0])/600)
	}
	if ours := p99["peak ewma"]; ours > p99["go-zero"] || ours > p99["round robin"]/2 {
		t.Errorf("the 99th percentiles: %v", p99)
	}
}

// TestPeak_SomeErrAtOnce has callers call backends of which some return an error at once: those get fewer calls than
// round_robin would give them (H3). One that is mended gets its share again.
func TestPeak_SomeErrAtOnce(t *testing.T) {
	for _, tt := range []struct{ err, of, callers int }{{1, 2, 1}, {1, 2, 64}, {1, 2, 1500}, {1, 4, 64}, {2, 4, 1}, {2, 4, 64}, {3, 4, 64}, {4, 4, 64}} {
		s := &simulated{random: rand.New(rand.NewPCG(1, 2)), calls: make([]int, tt.of)}
		mended := false
		s.fails = func(i int) bool { return i < tt.err && !mended }
		s.serve = func(i int) time.Duration {
			if s.fails(i) {
				return 100 * time.Microsecond
			}
			return 10 * time.Millisecond
		}
		s.peakEwma(setOf(peakEwma{}, nil, make([]uint32, tt.of)...))
		s.run(tt.callers, 20_000)
		share := func() (percent int) {
			var to, all int
			for i, n := range s.calls {
				if all += n; i < tt.err {
					to += n
				}
			}
			return 100 * to / all
		}
		got, even := share(), 100*tt.err/tt.of
		if got > even || tt.err == 1 && got > 10 {
			t.Errorf("%d of %d err, %d callers: they get %d %% of the calls", tt.err, tt.of, tt.callers, got)
		}
		t.Logf("%d of %d err, %d callers: %d %% of the calls fail", tt.err, tt.of, tt.callers, got)
		if tt.callers > 64 {
			continue // it would take millions of calls
		}
		mended = true
		for until := s.now + 15*retryAfter; s.now < until; {
			s.run(0, 1)
		}
		s.calls = make([]int, tt.of)
		s.run(0, 10_000)
		if got := share(); got < even-10 || got > even+10 {
			t.Errorf("%d of %d have erred, %d callers: mended, they get %d %% of the calls", tt.err, tt.of, tt.callers, got)
		}
	}
}

// TestPeak_FewErrorsCostLittle has one backend of two fail one call in a hundred.
func TestPeak_FewErrorsCostLittle(t *testing.T) {
	s := &simulated{random: rand.New(rand.NewPCG(1, 2)), calls: make([]int, 2)}
	s.fails = func(i int) bool { return i == 0 && s.random.IntN(100) == 0 }
	s.serve = func(int) time.Duration { return time.Duration(10e6 * (0.5 + s.random.Float64())) }
	s.peakEwma(setOf(peakEwma{}, nil, make([]uint32, 2)...))
	s.run(64, 50_000)
	if share := float64(s.calls[0]) / float64(s.calls[0]+s.calls[1]); share < 0.45 || share > 0.55 {
		t.Errorf("it gets %.2f of the calls", share)
	}
}

func TestPeakEstimates(t *testing.T) {
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
	for range 100 {
		failing = nextFailing(failing, true)
	}
	if failing != 1-minHealth {
		t.Errorf("after 100 failures: %v", failing)
	}
	if failing = nextFailing(failing, false); failing < 0.49 || failing > 0.5 {
		t.Errorf("after a success: %v", failing)
	}
	for range 10 {
		failing = nextFailing(failing, false)
	}
	if failing != 0 {
		t.Errorf("after eleven successes: %v", failing)
	}
}

func TestWhatCountsAsSlow(t *testing.T) {
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
}

func TestPeakPicks(t *testing.T) {
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
	if now += retryAfter + 1; true {
		a.picked.Store(int64(now))
	}
	if n := picks(); n != 99 {
		t.Errorf("after a second without a call, the slow one is tried %d times, want 1", 100-n)
	}
	if a.retry(now+2*retryAfter, 1) || !a.retry(now+2*retryAfter, retryOneIn) || a.retry(now+2*retryAfter, retryOneIn) {
		t.Error("one in ten calls is to try what was quiet, once")
	}
	for range 10 {
		a.end(time.Microsecond, now, status.Error(codes.Unavailable, ""))
	}
	if n := picks(); n != 0 {
		t.Errorf("%d of 100 picks are of one that fails at once", n)
	}
}

// TestPeakWhileAllStart has all endpoints be new, as after a deployment, and one of them fail, be slow, or not answer (P15).
func TestPeakWhileAllStart(t *testing.T) {
	for what, end := range map[string]func(x *Stats, now time.Duration){
		"fails":   func(x *Stats, now time.Duration) { x.peak.end(time.Millisecond, now, status.Error(codes.Unavailable, "")) },
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

func TestPeakOfCanceledCalls(t *testing.T) {
	var p peak
	p.end(time.Millisecond, time.Hour, nil)
	p.end(time.Microsecond, time.Hour+time.Second, status.Error(codes.Canceled, ""))
	if got := time.Duration(loadFloat(&p.latency)); got != time.Millisecond {
		t.Errorf("a short call that its caller gave up makes the latency %v", got)
	}
	p.end(time.Second, time.Hour+2*time.Second, status.Error(codes.Canceled, ""))
	if got := time.Duration(loadFloat(&p.latency)); got < time.Second/2 || loadFloat(&p.failing) != 0 {
		t.Errorf("a long call that its caller gave up makes the latency %v, failing %v", got, loadFloat(&p.failing))
	}
}

func TestACallThatWasNeverSent(t *testing.T) {
	var x Stats
	x.Begin(0)
	x.End(true)(balancer.DoneInfo{})
	if x.calls.Load() != 0 || loadFloat(&x.peak.latency) != 0 {
		t.Error("it counts")
	}
}

// BenchmarkEnd times what of peak_ewma's comes after the pick.
func BenchmarkEnd(b *testing.B) {
	var x Stats
	for b.Loop() {
		x.Begin(0)
		x.End(true)(balancer.DoneInfo{BytesReceived: true})
	}
}

// BenchmarkClock times what a reading of the clock takes. A pick of peak_ewma's has one, and the end of the call another.
func BenchmarkClock(b *testing.B) {
	for b.Loop() {
		sinceEpoch()
	}
}
