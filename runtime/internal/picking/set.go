package picking

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Tier holds the endpoints of equal preference that a connection uses, and the
// state that outlives a Set of its ready endpoints.
type Tier struct {
	Members   []int32 // the endpoints, by the numbers that the caller gave them
	sequence  Sequence
	ring      ringOf
	rings     *Rings // the cache that holds ring
	ringInput func() (names []string, weights []uint64)
}

// NewTier returns a tier. ringInput returns a name and a weight for each
// member, ready or not.
func NewTier(
	members []int32,
	rings *Rings,
	ringInput func() (names []string, weights []uint64),
) *Tier {
	t := &Tier{Members: members, rings: rings, ringInput: ringInput}
	t.sequence.Shuffle()

	return t
}

// Set is the ready members of a tier.
type Set struct {
	// the limit of calls under way at one endpoint; 0 means no limit
	MaxCalls int64

	// nil if new endpoints get their full share of the calls at once
	SlowStart *serviceconfig.SlowStart

	// under pick_first, the index of the member that gets all calls
	First int

	// under ring_hash, called when a call reaches a member of the tier
	Reach func(member int)

	// under ring_hash, whether a member connects, or soon will
	Connects atomic.Bool

	tier    *Tier
	members []*Stats
	weights []uint64 // of the members; nil if the policy does not use weights

	// for each endpoint of the tier, its index in members, notReady or
	// connecting; nil without Traits.Rings
	at []int32

	table atomic.Pointer[table]
}

// NewSet returns a set of a tier. The caller calls Add or LeaveOut for each
// member, in order.
func (t *Tier) NewSet(traits Traits) *Set {
	s := &Set{tier: t}
	if traits.Rings {
		s.at = make([]int32, 0, len(t.Members))
	}

	return s
}

// Add adds a ready endpoint. weight is 0 if the policy does not use weights.
func (s *Set) Add(x *Stats, weight uint64) {
	if s.members == nil {
		s.members = make([]*Stats, 0, len(s.tier.Members))
	}

	if s.at != nil {
		s.at = append(s.at, int32(len(s.members)))
	}

	s.members = append(s.members, x)

	if weight > 0 {
		s.weights = append(s.weights, weight)
	}
}

// The values in Set.at for endpoints that are not ready.
const (
	notReady   = -1
	connecting = -2 // or never reached by a call
)

// LeaveOut skips an endpoint of the tier that is not ready or lacks the method.
func (s *Set) LeaveOut(isConnecting bool) {
	switch {
	case s.at == nil:
	case isConnecting:
		s.at = append(s.at, connecting)
	default:
		s.at = append(s.at, notReady)
	}
}

// full reports whether a member has MaxCalls calls under way.
func (s *Set) full(i int) bool {
	return s.MaxCalls > 0 && s.members[i].UnderWay() >= s.MaxCalls
}

// free returns i if member i is not full. If member i is full, free draws other
// members by the shares in t, which is nil if all shares are equal. If the
// drawn members are full, too, free returns any member that is not full, or
// Full.
func (s *Set) free(t *table, i int) int {
	if !s.full(i) {
		return i
	}

	for range 2 {
		var j int
		if t != nil {
			j = t.find(rand.Uint64())
		} else {
			j = rand.IntN(len(s.members))
		}

		if !s.full(j) {
			return j
		}
	}

	for n := range s.members {
		if j := (i + n) % len(s.members); !s.full(j) {
			return j
		}
	}

	return Full
}
