package picking

import (
	"math/rand/v2"
	"sync/atomic"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Tier is a set of endpoints among which only the policy chooses. It holds the state that outlives a Set of them.
type Tier struct {
	sequence  Sequence
	ring      ringOf
	rings     *Rings // that has it
	ringInput func() (names []string, weights []uint64)
}

// NewTier returns a tier. hashed returns the input of its ring: a name and a weight for each endpoint, ready or not.
func NewTier(rings *Rings, ringInput func() (names []string, weights []uint64)) *Tier {
	t := &Tier{rings: rings, ringInput: ringInput}
	t.sequence.Shuffle()
	return t
}

// Settings are the options that apply to every policy.
type Settings struct {
	MaxCalls  int64                    // calls under way at one endpoint; 0: no bound
	SlowStart *serviceconfig.SlowStart // nil: each has its full share at once
}

// Set is the ready members of a tier.
type Set struct {
	Settings
	First   int // index of the member that gets all calls, if one does
	tier    *Tier
	size    int // of the tier
	members []*Stats
	weights []uint64 // nil: all have the same
	at      []int32  // for each endpoint of the tier, the index in members, or why it has none; nil: the policy has no ring

	table atomic.Pointer[table]
}

// NewSet returns a set of a tier with size endpoints. The caller adds or leaves out each, in order.
func (t *Tier) NewSet(size int, traits Traits, settings Settings) *Set {
	s := &Set{Settings: settings, tier: t, size: size}
	if traits.Rings {
		s.at = make([]int32, 0, size)
	}
	return s
}

// Add adds a ready endpoint. weight is 0 if weights do not count.
func (s *Set) Add(x *Stats, weight uint64) {
	if s.members == nil {
		s.members = make([]*Stats, 0, s.size)
	}
	if s.at != nil {
		s.at = append(s.at, int32(len(s.members)))
	}
	s.members = append(s.members, x)
	if weight > 0 {
		s.weights = append(s.weights, weight)
	}
}

// Values in Set.at of endpoints that are not ready.
const (
	notReady   = -1
	connecting = -2
)

// LeaveOut leaves out an endpoint that is not ready.
func (s *Set) LeaveOut(isConnecting bool) {
	switch {
	case s.at == nil:
	case isConnecting:
		s.at = append(s.at, connecting)
	default:
		s.at = append(s.at, notReady)
	}
}

// full reports whether a member has reached its bound.
func (s *Set) full(i int) bool { return s.MaxCalls > 0 && s.members[i].UnderWay() >= s.MaxCalls }

// free returns a member that is not full: i if possible, else one by the shares in t, else any; t is nil if all shares
// are equal. It returns Full if all are full.
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
