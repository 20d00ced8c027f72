package balancer

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// way chooses one of the instances of a set, which are ready, for a call. It is immutable. Which calls are where is in the
// plan; a way knows no lanes, groups or zones.
type way interface {
	traits() traits
	// pick returns the index of a member that is not full, or why there is none. It allocates nothing.
	pick(ctx context.Context, w *wishes, s *set) int
}

// Why a way picks no member.
const (
	full = -1 // all are
	wait = -2 // the call is for one that connects
)

// traits say what a way needs from the rest of the policy.
type traits struct {
	weighs bool // the endpoints' weights count
	counts bool // calls under way are counted
	times  bool // it is measured how long calls take
	single bool // one connection at a time serves, as in pick_first
}

// wayOf returns the way that a policy picks, nil if it is not ours.
func wayOf(policy serviceconfig.Policy) way {
	switch c := policy.Config.(type) {
	case *serviceconfig.PickFirst:
		return pickFirst{shuffled: c.ShuffleAddressList}
	case *serviceconfig.LeastRequest:
		return newLeastRequest(c)
	case *serviceconfig.RingHash:
		return newRingHash(c)
	}
	switch policy.Name {
	case serviceconfig.RoundRobinName:
		return roundRobin{}
	case serviceconfig.WeightedName:
		return weighted{}
	case serviceconfig.PeakEwmaName:
		return peakEwma{}
	}
	return nil
}
