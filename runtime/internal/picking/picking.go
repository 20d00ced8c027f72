// Package picking chooses one of the ready endpoints of a tier for a call.
//
//	picking.go    the interface of a policy, and the short policies
//	peakewma.go   the policy etcd_peak_ewma, and its estimates of latency
//	ringhash.go   the policy ring_hash, and its rings
//	set.go        the ready members of a tier
//	shares.go     the members' shares of the calls, also while the shares grow
//	stats.go      statistics of the calls to an address
package picking

import (
	"cmp"
	"context"
	"math/rand/v2"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// Policy chooses one of the endpoints of a set for a call. It is immutable, and
// does not know lanes, groups and zones.
type Policy interface {
	Traits() Traits

	// Pick returns the index in s of a member that is not full. If there is
	// none, it returns Full or Wait. It does not allocate.
	Pick(ctx context.Context, o *calloptions.Options, s *Set) int
}

// The results of Pick if it picks no member.
const (
	Full = -1 // each member has max_concurrent_requests calls under way
	Wait = -2 // the call waits for a member that is connecting
)

// Traits are the needs of a policy, for the balancer.
type Traits struct {
	Weighs   bool // the policy uses the endpoints' weights
	Counts   bool // the balancer counts the calls under way
	Times    bool // the balancer measures the latency of calls
	Single   bool // one connection at a time serves, as in pick_first
	Shuffles bool // each process orders the endpoints at random

	// the set also records endpoints that are not ready; the balancer connects
	// only to those that calls reach
	Rings bool
}

// Of returns the policy that a config names, or nil if this package does not
// have that policy.
func Of(policy serviceconfig.Policy) Policy {
	switch c := policy.Config.(type) {
	case *serviceconfig.RoundRobin:
		return roundRobin{}
	case *serviceconfig.PickFirst:
		return pickFirst{c.ShuffleAddressList}
	case *serviceconfig.LeastRequest:
		return leastRequest{int(cmp.Or(c.ChoiceCount, serviceconfig.DefaultChoiceCount))}
	case *serviceconfig.RingHash:
		return newRingHash(c)
	case *serviceconfig.Weighted:
		return weighted{}
	case *serviceconfig.PeakEwma:
		return peakEwma{}
	}

	return nil
}

// roundRobin picks the instances in turn.
type roundRobin struct{}

func (roundRobin) Traits() Traits {
	return Traits{}
}

func (roundRobin) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	if s.SlowStart == nil {
		return s.free(nil, int(uint32(s.tier.sequence.i.Add(1))%uint32(len(s.members))))
	}

	t := s.current()

	return s.free(t, t.find(s.tier.sequence.Next()))
}

// weighted divides the calls by the endpoints' weights.
type weighted struct{}

func (weighted) Traits() Traits {
	return Traits{Weighs: true}
}

func (weighted) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	t := s.current()
	return s.free(t, t.find(s.tier.sequence.Next()))
}

// leastRequest draws some instances at random, and picks the one among them
// with the fewest calls under way.
type leastRequest struct{ choices int }

func (leastRequest) Traits() Traits {
	return Traits{Counts: true}
}

func (l leastRequest) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	best := s.free(nil, rand.IntN(len(s.members)))
	if best < 0 {
		return best
	}

	for range l.choices - 1 {
		i := rand.IntN(len(s.members))
		if s.members[i].UnderWay() < s.members[best].UnderWay() {
			best = i
		}
	}

	return best
}

// pickFirst sends all calls to the first ready endpoint while that endpoint is
// ready. The balancer connects to the next endpoint only when the previous ones
// have failed.
type pickFirst struct{ shuffled bool }

func (p pickFirst) Traits() Traits {
	return Traits{Single: true, Shuffles: p.shuffled}
}

func (pickFirst) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	return s.First
}

// Sequence yields multiples of the golden ratio, modulo 1, scaled to uint64.
// Any run of them is spread evenly, so shares are exact, not just on average.
// The choice of a group and the choice of a member each have a sequence: if
// they shared one, a group would always get the same members.
type Sequence struct{ i atomic.Uint64 }

// Shuffle starts the sequence at random, so that many clients with one call
// each choose differently.
func (s *Sequence) Shuffle() {
	s.i.Store(rand.Uint64())
}

// Next returns the next number.
func (s *Sequence) Next() uint64 {
	return s.i.Add(1) * 0x9e3779b97f4a7c15
}
