package balancer

import (
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// fade is the time in which all but 1/e of what was is forgotten.
	fade = 10 * time.Second
	// rise is fade for latencies above the estimate, which are believed a hundred times as soon. They do not replace
	// it: where hundreds of calls end in a moment, the slowest of them says little, and ten seconds must not go by it.
	rise = fade / 100
	// retryAfter is how long an endpoint may go without a call before one that would go elsewhere may go there.
	retryAfter = time.Second
	// minHealth is the health of an endpoint at which all calls fail.
	minHealth = 1.0 / 1024
)

// peak estimates how long a call to an address takes. The zero value knows nothing yet.
type peak struct {
	underWay atomic.Int64  // calls
	picked   atomic.Int64  // when a call was last picked, in nanoseconds since epoch
	heard    atomic.Int64  // when a call last ended
	latency  atomic.Uint64 // a float64, in nanoseconds; 0: unknown
	failing  atomic.Uint64 // a float64: 1 minus the health
}

func loadFloat(x *atomic.Uint64) float64 { return math.Float64frombits(x.Load()) }

// storeFloat replaces old by next, unless another call has ended meanwhile: that one is as good.
func storeFloat(x *atomic.Uint64, old, next float64) {
	x.CompareAndSwap(math.Float64bits(old), math.Float64bits(next))
}

// end takes the outcome of a call that took some time.
func (p *peak) end(took, now time.Duration, err error) {
	since := now - time.Duration(p.heard.Swap(int64(now)))
	code := status.Code(err)
	latency, failing := loadFloat(&p.latency), loadFloat(&p.failing)
	fails := overloadedOrGone(code)
	// A call that failed, or that its caller gave up, says no more than that it would have taken as long or longer.
	if !fails && code != codes.Canceled || float64(took) > latency {
		storeFloat(&p.latency, latency, nextLatency(latency, float64(took), since))
	}
	if fails || failing > 0 && code != codes.Canceled {
		storeFloat(&p.failing, failing, nextFailing(failing, fails, since))
	}
}

// overloadedOrGone reports whether an error tells of the endpoint rather than of the call.
func overloadedOrGone(code codes.Code) bool {
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted, codes.Internal, codes.DataLoss:
		return true
	}
	return false
}

// nextLatency returns the estimate after a call that took some time, the last one having ended a while before.
func nextLatency(before, took float64, since time.Duration) float64 {
	took = max(1, took)
	if before == 0 {
		return took
	}
	over := fade
	if took > before {
		over = rise
	}
	return took + (before-took)*kept(since, over)
}

// nextFailing returns 1 minus the health after a call. One that fails halves the health, one that does not has
// it recover.
func nextFailing(before float64, fails bool, since time.Duration) float64 {
	if fails {
		return 1 - max(minHealth, (1-before)/2)
	}
	if next := before * kept(since, fade); next > minHealth {
		return next
	}
	return 0
}

// kept returns how much of what was is left after a while.
func kept(since, over time.Duration) float64 {
	x := max(0, float64(since)) / float64(over)
	if x < short {
		return 1 - x
	}
	return math.Exp(-x)
}

// short is how small a part of a fade is so short that math.Exp, which takes half of the time of a call's end, tells
// no more than a straight line does.
const short = 1.0 / 1024

// cost returns what a call to an address with a latency costs.
func (p *peak) cost(latency float64) float64 {
	return latency * (float64(p.underWay.Load()) + 1) / (1 - loadFloat(&p.failing))
}

// cheaper reports whether a call to p costs no more than one to o. Where the latency of one is not known yet, it is
// taken for the other's: so several new endpoints share the calls with the old ones by what is under way.
func (p *peak) cheaper(o *peak) bool {
	mine, others := loadFloat(&p.latency), loadFloat(&o.latency)
	switch {
	case mine == 0 && others == 0:
		mine, others = 1, 1
	case mine == 0:
		mine = others
	case others == 0:
		others = mine
	}
	return p.cost(mine) <= o.cost(others)
}

// dearer reports whether a call to p costs much more than one to o, whatever is under way at either.
func (p *peak) dearer(o *peak) bool {
	mine, others := loadFloat(&p.latency), loadFloat(&o.latency)
	if mine == 0 || others == 0 {
		mine, others = 1, 1
	}
	return mine/(1-loadFloat(&p.failing)) > muchDearer*others/(1-loadFloat(&o.failing))
}

// muchDearer is how many times the cost of another one is much dearer.
const muchDearer = 2

// retry reports whether a call is due to show how the endpoint is now. n is random: where calls are few, most endpoints
// have been quiet for long, and no more than one in retryOneIn of the calls is to find out.
func (p *peak) retry(now time.Duration, n uint64) bool {
	last := p.picked.Load()
	return now-time.Duration(last) > retryAfter && n%retryOneIn == 0 && p.picked.CompareAndSwap(last, int64(now))
}

// retryOneIn bounds the calls that retry takes, where they go.
const retryOneIn = 10
