package picking

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Tier is a set of endpoints among which only the policy chooses. It holds the state that outlives a Set of them.
type Tier struct {
	sequence Sequence
	ring     ringOf
	rings    *Rings // that has it
	hashed   func() (names []string, weights []uint64)
}

// NewTier returns a tier. hashed returns the input of its ring: a name and a weight for each endpoint, ready or not.
func NewTier(rings *Rings, hashed func() (names []string, weights []uint64)) *Tier {
	t := &Tier{rings: rings, hashed: hashed}
	t.sequence.Shuffle()
	return t
}

// Settings are the options that apply to every policy.
type Settings struct {
	Most      int64                    // calls under way at one endpoint; 0: no bound
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
func (t *Tier) NewSet(size int, traits Traits, by Settings) *Set {
	s := &Set{Settings: by, tier: t, size: size}
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
	fails    = -1
	connects = -2
)

// LeaveOut leaves out an endpoint that is not ready.
func (s *Set) LeaveOut(connecting bool) {
	switch {
	case s.at == nil:
	case connecting:
		s.at = append(s.at, connects)
	default:
		s.at = append(s.at, fails)
	}
}

// table holds the shares of a set's members at one time. It is immutable.
type table struct {
	until  time.Duration // when the next share grows; 0: none grows
	upTo   []uint64      // for each member, the sum of the weights up to and including its own
	shares []float64     // of the members' weights, from 0 to 1; nil: all are 1
}

// current returns the table of this moment. It reads the clock only while a share grows.
func (s *Set) current() *table {
	if t := s.table.Load(); t != nil && t.until == 0 {
		return t
	}
	return s.currentAt(sinceEpoch())
}

// currentAt returns the table of a moment. When the next one is due, each caller that notices makes it.
func (s *Set) currentAt(now time.Duration) *table {
	last := s.table.Load()
	if last != nil && (last.until == 0 || now < last.until) {
		return last
	}
	next := s.makeTable(now)
	s.table.CompareAndSwap(last, next)
	return next
}

func (s *Set) makeTable(now time.Duration) *table {
	t := &table{upTo: make([]uint64, len(s.members))}
	if s.SlowStart != nil {
		t.shares, t.until = s.grown(now)
	}
	total := uint64(0)
	for i := range s.members {
		weight := uint64(1)
		if s.weights != nil {
			weight = s.weights[i]
		}
		if t.shares != nil {
			weight = max(1, weight*uint64(t.shares[i]*shareUnits))
		}
		total += weight
		t.upTo[i] = total
	}
	return t
}

// grown returns the members' shares at now, and when the next share grows; nil and 0 if all are full.
func (s *Set) grown(now time.Duration) (shares []float64, until time.Duration) {
	all := make([]float64, len(s.members))
	for i, x := range s.members {
		share, grows := x.start.Load().share(s.SlowStart, now)
		if all[i] = share; grows {
			shares, until = all, now+stepOf(s.SlowStart)
		}
	}
	return shares, until
}

// grows reports whether the share of a member still grows.
func (t *table) grows(i int) bool { return t != nil && t.shares != nil && t.shares[i] < 1 }

// find returns the member whose share of the calls contains n.
func (t *table) find(n uint64) int {
	at, _ := bits.Mul64(n, t.upTo[len(t.upTo)-1])
	low, high := 0, len(t.upTo)-1
	for low < high { // sort.Search takes twice as long
		if half := int(uint(low+high) >> 1); at < t.upTo[half] {
			high = half
		} else {
			low = half + 1
		}
	}
	return low
}

// full reports whether a member has reached its bound.
func (s *Set) full(i int) bool { return s.Most > 0 && s.members[i].UnderWay() >= s.Most }

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
