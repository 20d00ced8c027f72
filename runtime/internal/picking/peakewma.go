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

// peakEwma draws two instances, and picks the one where a call costs less.
type peakEwma struct{}

func (peakEwma) Traits() Traits { return Traits{Counts: true, Times: true} }

func (peakEwma) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	return s.cheapest(sinceEpoch())
}

// cheapest draws two members, and returns the one for a call at now, or Full.
func (s *Set) cheapest(now time.Duration) int {
	var t *table
	if s.SlowStart != nil {
		t = s.currentAt(now)
	}
	i, j := s.drawTwo(t)
	if s.MaxCalls > 0 {
		i, j = s.free(t, i), s.free(t, j)
	}
	switch {
	case i == j || j < 0:
		return s.picked(i, now)
	case i < 0: // a call has just ended
		return s.picked(j, now)
	}
	a, b := s.members[i], s.members[j]
	wins := a.cheaper(b)
	if t.grows(i) {
		wins = !a.costlier(b)
	}
	if !wins {
		i, j, b = j, i, a
	}
	if b.peak.retry(now, rand.Uint64()) {
		i = j
	}
	return s.picked(i, now)
}

// picked records the pick of a member.
func (s *Set) picked(i int, now time.Duration) int {
	if i >= 0 {
		s.members[i].peak.picked.Store(int64(now))
	}
	return i
}

// two draws two members, which may be the same.
func (s *Set) drawTwo(t *table) (i, j int) {
	if t != nil && t.shares != nil {
		return s.drawTwoByShares(t)
	}
	all := len(s.members)
	if all == 1 {
		return 0, 0
	}
	if i, j = rand.IntN(all), rand.IntN(all-1); j >= i {
		j++
	}
	return i, j
}

// maxDraws bounds the draws of a second member that can be compared with the first.
const maxDraws = 4

// twoOfShares is two while a share grows. The first is the next member in turn. If its share grows, the second is any
// other, and the first gets the call unless it is much costlier: with few calls under way, it would be the cheaper one too
// often. Otherwise the second is a member whose share no longer grows.
func (s *Set) drawTwoByShares(t *table) (i, j int) {
	i = t.find(s.tier.sequence.Next())
	for range maxDraws {
		if j = t.find(rand.Uint64()); j != i && (t.grows(i) || !t.grows(j)) {
			return i, j
		}
	}
	return i, i
}

// cost returns the cost of a call to x with a latency.
func (x *Stats) cost(latency float64) float64 {
	return latency * (float64(x.calls.Load()) + 1) / (1 - loadFloat(&x.peak.failing))
}

// costs returns the costs of calls to x and to o. An unknown latency is assumed to be the other's, so that new
// endpoints share the calls with old ones by the calls under way.
func (x *Stats) costs(o *Stats) (mine, others float64) {
	mine, others = loadFloat(&x.peak.latency), loadFloat(&o.peak.latency)
	switch {
	case mine == 0 && others == 0:
		mine, others = 1, 1
	case mine == 0:
		mine = others
	case others == 0:
		others = mine
	}
	return x.cost(mine), o.cost(others)
}

// cheaper reports whether a call to x costs at most as much as one to o.
func (x *Stats) cheaper(o *Stats) bool {
	mine, others := x.costs(o)
	return mine <= others
}

// costlier reports whether a call to x costs much more than one to o.
func (x *Stats) costlier(o *Stats) bool {
	mine, others := x.costs(o)
	return mine > muchCostlier*others
}

const (
	// decay is the time constant of the averages: after it, earlier values count 1/e.
	decay = 10 * time.Second
	// rise is the time constant for latencies above the estimate, so that a slow endpoint is noticed soon. It is not
	// zero: of hundreds of calls in a moment, the slowest is not typical, and would count for ten seconds.
	rise = decay / 100
	// retryAfter is how long an endpoint goes without a call before it may get one that would go elsewhere.
	retryAfter = time.Second
	// One in retryOneIn calls may be such a call.
	retryOneIn = 10
	// muchCostlier is the ratio of two costs from which one is much costlier than the other.
	muchCostlier = 2
	// minHealth is the health of an endpoint whose calls all fail. Its inverse is far above the calls under way at any
	// endpoint: healthy endpoints get the calls, however many they have.
	minHealth = 1.0 / (1 << 30)
	// negligible is the loss of health up to which an endpoint counts as healthy.
	negligible = 1.0 / 1024
	// linear is the part of a time constant up to which a straight line is exact enough. It saves math.Exp, which takes
	// half of the cost of ending a call.
	linear = 1.0 / 1024
)

// peak estimates how long a call to an address takes. The zero value has no estimate yet.
type peak struct {
	picked  atomic.Int64  // when a call was last picked, in nanoseconds since epoch
	ended   atomic.Int64  // when a call last ended
	latency atomic.Uint64 // a float64, in nanoseconds; 0: unknown
	failing atomic.Uint64 // a float64: 1 minus the health
}

func loadFloat(x *atomic.Uint64) float64 { return math.Float64frombits(x.Load()) }

// storeFloat replaces old by next, unless another call has ended since: its outcome is as good.
func storeFloat(x *atomic.Uint64, old, next float64) {
	x.CompareAndSwap(math.Float64bits(old), math.Float64bits(next))
}

// end records the outcome of a call.
func (p *peak) end(took, now time.Duration, err error) {
	since := now - time.Duration(p.ended.Swap(int64(now)))
	code := status.Code(err)
	latency, failing := loadFloat(&p.latency), loadFloat(&p.failing)
	failed := !isHealthy(code)
	// A call that failed, or was canceled, only gives a lower bound of the latency.
	if !failed && code != codes.Canceled || float64(took) > latency {
		storeFloat(&p.latency, latency, nextLatency(latency, float64(took), since))
	}
	if failed || failing > 0 && code != codes.Canceled {
		storeFloat(&p.failing, failing, nextFailing(failing, failed))
	}
}

// answers reports whether a code is the answer of a healthy endpoint: the call succeeded, or any endpoint would have
// refused the request. Aborted counts: two requests conflicted. All other codes are failures, even fast ones: Unknown is
// the code of a plain Go error, and Unimplemented and Unauthenticated come from misconfigured servers.
func isHealthy(code codes.Code) bool {
	switch code {
	case codes.OK, codes.Canceled, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return true
	}
	return false
}

// nextLatency returns the estimate after a call. since is the time since the previous one ended.
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

// nextFailing returns 1 minus the health after a call. A failed call halves the health, any other halves the distance
// to full health. So an endpoint with few failed calls keeps its share, and a recovered one has it back after a few calls.
func nextFailing(previous float64, failed bool) float64 {
	if failed {
		return 1 - max(minHealth, (1-previous)/2)
	}
	if previous < negligible {
		return 0
	}
	return previous / 2
}

// kept returns the weight of an old value after a time.
func oldWeight(since, constant time.Duration) float64 {
	x := max(0, float64(since)) / float64(constant)
	if x < linear {
		return 1 - x
	}
	return math.Exp(-x)
}

// retry reports whether the endpoint should get a call to test whether it has recovered. n is random: if calls are
// rare, most endpoints have had none for long, and only one call in retryOneIn may be such a test.
func (p *peak) retry(now time.Duration, n uint64) bool {
	lastPick := p.picked.Load()
	return now-time.Duration(lastPick) > retryAfter && n%retryOneIn == 0 && p.picked.CompareAndSwap(lastPick, int64(now))
}
