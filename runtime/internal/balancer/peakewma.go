package balancer

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// PeakEwmaName is the name of the policy that picks by latency times calls under way.
const PeakEwmaName = serviceconfig.PeakEwmaName

// peakEwma draws two instances, and picks the one at which a call costs less.
type peakEwma struct{}

func (peakEwma) traits() traits { return traits{counts: true, times: true} }

func (peakEwma) pick(_ context.Context, _ *wishes, s *set) int {
	return s.cheapest(sinceEpoch())
}

// cheapest draws two members, and returns the one for a call at now, -1 if all are full.
func (s *set) cheapest(now time.Duration) int {
	var t *table
	if s.slow != nil {
		t = s.currentAt(now)
	}
	i, j := s.two(t)
	if s.most > 0 {
		i, j = s.free(t, i), s.free(t, j)
	}
	switch {
	case i == j || j < 0:
		return s.picked(i, now)
	case i < 0: // a call has ended meanwhile
		return s.picked(j, now)
	}
	a, b := s.conns[i].station, s.conns[j].station
	if t.grows(i) && a.dearer(b) || !t.grows(i) && !a.cheaper(b) {
		i, j, b = j, i, a
	}
	if b.peak.retry(now, rand.Uint64()) {
		i = j
	}
	return s.picked(i, now)
}

// picked notes that a member is picked.
func (s *set) picked(i int, now time.Duration) int {
	if i >= 0 {
		s.conns[i].peak.picked.Store(int64(now))
	}
	return i
}

// two draws two members, or one twice.
func (s *set) two(t *table) (i, j int) {
	if t != nil && t.shares != nil {
		return s.twoOfShares(t)
	}
	all, n := uint64(len(s.conns)), rand.Uint64()
	if all == 1 {
		return 0, 0
	}
	i, j = int(n>>32*all>>32), int(n&(1<<32-1)*(all-1)>>32)
	if j >= i {
		j++
	}
	return i, j
}

// maxDraws is how often a second member is drawn that may stand beside the first.
const maxDraws = 4

// twoOfShares is two while a share grows. The first is the one whose turn it is. If its share grows, it gets the call unless
// it is much dearer than the other, which is any: few calls are under way at it, so it would be the cheaper one too
// often. Otherwise the other is one whose share no longer grows.
func (s *set) twoOfShares(t *table) (i, j int) {
	i = t.find(s.tier.sequence.next())
	for range maxDraws {
		if j = t.find(rand.Uint64()); j != i && (t.grows(i) || !t.grows(j)) {
			return i, j
		}
	}
	return i, i
}
