package picking

import (
	"context"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// peakEwma draws two instances, and picks the one whose cost, latency times
// calls under way, is lower.
type peakEwma struct{}

func (peakEwma) Traits() Traits {
	return Traits{Counts: true, Times: true}
}

func (peakEwma) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	return s.cheapest(sinceEpoch())
}

// cheapest draws two members, and returns the cheaper one for a call at now. It
// returns Full if all members are full.
func (s *Set) cheapest(now time.Duration) int {
	var t *table
	if s.SlowStart != nil {
		t = s.currentAt(now)
	}

	i, j := s.drawTwo(t)
	if s.MaxCalls > 0 {
		i = s.free(t, i)
		j = s.free(t, j)
	}

	switch {
	case i == j || j < 0:
		return s.picked(i, now)
	case i < 0: // all were full when i was sought; then a call ended
		return s.picked(j, now)
	}

	a := s.members[i]
	b := s.members[j]

	mine, others := a.costs(b)
	if t.grows(i) {
		others *= muchCostlier
	}

	if mine > others {
		i, j, b = j, i, a
	}

	if b.peak.retry(now, rand.Uint64()) {
		i = j
	}

	return s.picked(i, now)
}

// picked records that member i was picked at now, and returns i.
func (s *Set) picked(i int, now time.Duration) int {
	if i >= 0 {
		s.members[i].peak.picked.Store(int64(now))
	}

	return i
}

// drawTwo draws two members, which may be the same.
func (s *Set) drawTwo(t *table) (i, j int) {
	if t != nil && t.shares != nil {
		return s.drawTwoByShares(t)
	}

	all := len(s.members)
	if all == 1 {
		return 0, 0
	}

	i = rand.IntN(all)

	j = rand.IntN(all - 1)
	if j >= i {
		j++
	}

	return i, j
}

// maxDraws bounds the draws of drawTwoByShares for the second member.
const maxDraws = 4

// drawTwoByShares does the work of drawTwo while a share grows. It draws the
// first member by the shares. If that member's share grows, the second is any
// other member, and cheapest prefers the first unless the first is much
// costlier. If the first member's share does not grow, the second is a member
// whose share does not grow either. So the calls of a growing member follow its
// share. By cost alone, it would get too many: while few calls are under way,
// it is often the cheaper one.
func (s *Set) drawTwoByShares(t *table) (i, j int) {
	i = t.find(s.tier.sequence.Next())
	for range maxDraws {
		j = t.find(rand.Uint64())
		if j != i && (t.grows(i) || !t.grows(j)) {
			return i, j
		}
	}

	return i, i
}

// cost returns the cost of a call to x: the latency times the calls under way,
// divided by the health.
func (x *Stats) cost(latency float64) float64 {
	return latency * (float64(x.calls.Load()) + 1) / (1 - loadFloat(&x.peak.failing))
}

// costs returns the costs of calls to x and to o. An unknown latency counts as
// equal to the known one, so that the numbers of calls under way decide between
// a new and an old endpoint.
func (x *Stats) costs(o *Stats) (mine, others float64) {
	mine = loadFloat(&x.peak.latency)
	others = loadFloat(&o.peak.latency)
	switch {
	case mine == 0 && others == 0:
		mine = 1
		others = 1
	case mine == 0:
		mine = others
	case others == 0:
		others = mine
	}

	return x.cost(mine), o.cost(others)
}

const (
	// decay is the time constant of the averages: after this time, earlier
	// values have the weight 1/e.
	decay = 10 * time.Second

	// rise is the time constant for latencies above the estimate. It is short,
	// so that a slow endpoint is noticed soon. It is not zero, because the
	// slowest of many concurrent calls is not typical, and would count for ten
	// seconds.
	rise = decay / 100

	// retryAfter is the time without a call after which a costly endpoint gets
	// a test call.
	retryAfter = time.Second

	// retryOneIn limits test calls to one in retryOneIn calls.
	retryOneIn = 10

	// muchCostlier is the ratio of two costs above which the higher counts as
	// much costlier.
	muchCostlier = 2

	// minHealth is the health of an endpoint whose calls all fail. Dividing by
	// it makes a cost so high that healthy endpoints get the calls, however
	// many calls they have under way.
	minHealth = 1.0 / (1 << 30)

	// negligible is the loss of health below which an endpoint counts as
	// healthy.
	negligible = 1.0 / 1024

	// maxLinear bounds the x for which oldWeight returns 1 - x in place of
	// math.Exp(-x). math.Exp would take half of peak.end's time.
	maxLinear = 1.0 / 1024
)

// peak estimates how long a call to an address takes. The zero value has no
// estimate yet.
type peak struct {
	picked atomic.Int64 // the time of the last pick, in nanoseconds since epoch

	// the time when the last timed call ended, in nanoseconds since epoch
	ended atomic.Int64

	latency atomic.Uint64 // a float64, in nanoseconds; 0 if unknown
	failing atomic.Uint64 // a float64: 1 minus the health
}

func loadFloat(x *atomic.Uint64) float64 {
	return math.Float64frombits(x.Load())
}

// storeFloat replaces old by next. If another call has replaced old, storeFloat
// keeps that call's value.
func storeFloat(x *atomic.Uint64, old, next float64) {
	x.CompareAndSwap(math.Float64bits(old), math.Float64bits(next))
}

// end records a call and how long it took. The duration of a failed or canceled
// call is only a lower bound of the latency.
func (p *peak) end(took, now time.Duration, err error) {
	since := now - time.Duration(p.ended.Swap(int64(now)))
	latency := loadFloat(&p.latency)
	code := status.Code(err)
	if isHealthy(code) && code != codes.Canceled || float64(took) > latency {
		storeFloat(&p.latency, latency, nextLatency(latency, float64(took), since))
	}

	p.judge(err)
}

// judge records the outcome of a call.
func (p *peak) judge(err error) {
	code := status.Code(err)
	failing := loadFloat(&p.failing)
	if failed := !isHealthy(code); failed || failing > 0 && code != codes.Canceled {
		storeFloat(&p.failing, failing, nextFailing(failing, failed))
	}
}

// isHealthy reports whether a code may come from a healthy endpoint: the call
// succeeded, or every endpoint would refuse the request. Aborted counts as
// healthy, because it means that two requests conflicted. Unknown counts as a
// failure, because it is the code of a plain Go error. Unimplemented and
// Unauthenticated count as failures, because they come from misconfigured
// servers.
func isHealthy(code codes.Code) bool {
	switch code {
	case codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound,
		codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return true
	}

	return false
}

// nextLatency returns the estimate after a call of the duration took. since is
// the time since the previous call ended.
func nextLatency(previous, took float64, since time.Duration) float64 {
	took = max(1, took)
	if previous == 0 {
		return took
	}

	constant := decay
	if took > previous {
		constant = rise
	}

	return took + (previous-took)*oldWeight(since, constant)
}

// nextFailing returns 1 minus the health after a call. A failed call halves the
// health, and any other call halves the distance to full health. So rare failed
// calls hardly change an endpoint's share, and a recovered endpoint soon has
// its share again.
func nextFailing(previous float64, failed bool) float64 {
	if failed {
		return 1 - max(minHealth, (1-previous)/2)
	}

	if previous < negligible {
		return 0
	}

	return previous / 2
}

// oldWeight returns the weight of the previous average in the next one. since
// is the time between them, and constant is the time constant.
func oldWeight(since, constant time.Duration) float64 {
	x := max(0, float64(since)) / float64(constant)
	if x < maxLinear {
		return 1 - x
	}

	return math.Exp(-x)
}

// retry reports whether the endpoint should get a test call, to find out
// whether it has recovered. The random number n limits test calls to one in
// retryOneIn: while calls are rare, most endpoints have had no call for long.
func (p *peak) retry(now time.Duration, n uint64) bool {
	lastPick := p.picked.Load()

	return now-time.Duration(lastPick) > retryAfter &&
		n%retryOneIn == 0 &&
		p.picked.CompareAndSwap(lastPick, int64(now))
}
