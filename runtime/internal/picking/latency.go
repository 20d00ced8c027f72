package picking

import (
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// decay is the time constant of the averages: after it, earlier values count 1/e.
	decay = 10 * time.Second
	// rise is the time constant for latencies above the estimate, so that a slow endpoint is noticed soon. It is not
	// zero: where hundreds of calls end in a moment, the slowest of them says little, and would count for ten seconds.
	rise = decay / 100
	// retryAfter is how long an endpoint goes without a call before it may get one that would go elsewhere.
	retryAfter = time.Second
	// retryOneIn bounds such calls: one in so many.
	retryOneIn = 10
	// muchCostlier is from which ratio of two costs on one is much costlier than the other.
	muchCostlier = 2
	// minHealth is the health of an endpoint at which all calls fail. Its inverse is far above the calls under way at an
	// endpoint: those that work get the calls, however many they have.
	minHealth = 1.0 / (1 << 30)
	// negligible is how much health an endpoint that counts as healthy may lack.
	negligible = 1.0 / 1024
	// linear is the part of a time constant up to which a straight line is exact enough. It spares math.Exp, which takes
	// half of the time that the end of a call costs.
	linear = 1.0 / 1024
)

// peak estimates how long a call to an address takes. The zero value knows nothing yet.
type peak struct {
	picked  atomic.Int64  // when a call was last picked, in nanoseconds since epoch
	ended   atomic.Int64  // when a call last ended
	latency atomic.Uint64 // a float64, in nanoseconds; 0: unknown
	failing atomic.Uint64 // a float64: 1 minus the health
}

func loadFloat(x *atomic.Uint64) float64 { return math.Float64frombits(x.Load()) }

// storeFloat replaces old by next, unless another call has ended since: its outcome serves as well.
func storeFloat(x *atomic.Uint64, old, next float64) {
	x.CompareAndSwap(math.Float64bits(old), math.Float64bits(next))
}

// end notes the outcome of a call.
func (p *peak) end(took, now time.Duration, err error) {
	since := now - time.Duration(p.ended.Swap(int64(now)))
	code := status.Code(err)
	latency, failing := loadFloat(&p.latency), loadFloat(&p.failing)
	fails := !answers(code)
	// A call that failed, or that its caller gave up, is known only to need at least as long.
	if !fails && code != codes.Canceled || float64(took) > latency {
		storeFloat(&p.latency, latency, nextLatency(latency, float64(took), since))
	}
	if fails || failing > 0 && code != codes.Canceled {
		storeFloat(&p.failing, failing, nextFailing(failing, fails))
	}
}

// answers reports whether a call with this code was answered, as far as its caller is concerned: it succeeded, or the
// request was wrong and any other endpoint would say the same. Aborted is among these: two requests were in each other's
// way. All other codes are failures, even those that come fast: Unknown is what a plain Go error becomes, Unimplemented and
// Unauthenticated come from servers that were set up wrong.
func answers(code codes.Code) bool {
	switch code {
	case codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return true
	}
	return false
}

// nextLatency returns the estimate after a call. since is the time since the previous one ended.
func nextLatency(before, took float64, since time.Duration) float64 {
	took = max(1, took)
	if before == 0 {
		return took
	}
	constant := decay
	if took > before {
		constant = rise
	}
	return took + (before-took)*kept(since, constant)
}

// nextFailing returns 1 minus the health after a call. A call that fails halves the health, any other halves the distance
// to full health. So an endpoint of which few calls fail keeps its share, and one that has recovered has it back after a few calls.
func nextFailing(before float64, fails bool) float64 {
	if fails {
		return 1 - max(minHealth, (1-before)/2)
	}
	if before < negligible {
		return 0
	}
	return before / 2
}

// kept returns the weight that an old value has after a while.
func kept(since, constant time.Duration) float64 {
	x := max(0, float64(since)) / float64(constant)
	if x < linear {
		return 1 - x
	}
	return math.Exp(-x)
}

// retry reports whether the endpoint should get a call to show whether it has recovered. n is random: where calls are
// rare, most endpoints have had none for long, and only one call in retryOneIn may be spent on that.
func (p *peak) retry(now time.Duration, n uint64) bool {
	last := p.picked.Load()
	return now-time.Duration(last) > retryAfter && n%retryOneIn == 0 && p.picked.CompareAndSwap(last, int64(now))
}
