package picking

import (
	"context"
	"math/rand/v2"
	"time"

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
	i, j := s.two(t)
	if s.Most > 0 {
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
func (s *Set) two(t *table) (i, j int) {
	if t != nil && t.shares != nil {
		return s.twoOfShares(t)
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
func (s *Set) twoOfShares(t *table) (i, j int) {
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
