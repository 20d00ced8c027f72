package balancer

import (
	"math/bits"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// tier is endpoints of a group between which nothing but the way of picking decides.
type tier struct {
	members  []int32 // of plan.left
	zone     int
	sequence sequence
	ring     ringOf
	rings    *rings                                    // that has it
	hashed   func() (names []string, weights []uint64) // what it is made of
}

// set is the members of a tier that are ready.
type set struct {
	tier  *tier
	conns []*conn
	at    []int32 // the index in conns of each member of the tier, or why it has none; for rings alone

	most    int64                    // calls under way at one of them; 0: no bound
	slow    *serviceconfig.SlowStart // nil: all have their full share at once
	weights []uint64                 // nil: all have the same

	table    atomic.Pointer[table]
	renewing atomic.Bool
}

// table holds the shares of a set's members at one time. It is immutable.
type table struct {
	until  time.Duration // when a share will have grown; 0: none grows
	upTo   []uint64      // for each member, the sum of the weights up to its own, which is included
	shares []float64     // of the members' weights, from 0 to 1; nil: all are 1
}

// current returns the table of this moment. It reads the clock only while a share grows.
func (s *set) current() *table {
	if t := s.table.Load(); t != nil && t.until == 0 {
		return t
	}
	return s.currentAt(sinceEpoch())
}

// currentAt returns the table of a moment. When the next one is due, the first caller to notice makes it, and the others
// go by the old one meanwhile.
func (s *set) currentAt(now time.Duration) *table {
	t := s.table.Load()
	if t != nil && (t.until == 0 || now < t.until) {
		return t
	}
	if t == nil {
		s.table.CompareAndSwap(nil, s.makeTable(now))
		return s.table.Load()
	}
	if s.renewing.CompareAndSwap(false, true) {
		defer s.renewing.Store(false)
		t = s.makeTable(now)
		s.table.Store(t)
	}
	return t
}

func (s *set) makeTable(now time.Duration) *table {
	t := &table{upTo: make([]uint64, len(s.conns))}
	if s.slow != nil {
		t.shares, t.until = s.grown(now)
	}
	total := uint64(0)
	for i := range s.conns {
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

// grown returns the members' shares at now, and when a share will have grown; nil and 0 if all are full.
func (s *set) grown(now time.Duration) (shares []float64, until time.Duration) {
	all := make([]float64, len(s.conns))
	for i, c := range s.conns {
		share, grows := c.start.Load().share(s.slow, now)
		if all[i] = share; grows {
			shares, until = all, now+stepOf(s.slow)
		}
	}
	return shares, until
}

// grows reports whether the share of a member still grows.
func (t *table) grows(i int) bool { return t != nil && t.shares != nil && t.shares[i] < 1 }

// find returns the member in whose share of the calls n lies.
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

// full reports whether a member may have no more calls.
func (s *set) full(i int) bool { return s.most > 0 && s.conns[i].calls.Load() >= s.most }

// free returns a member that is not full: i if possible, else one by its share of the calls, which t has unless all are
// alike, else any. It returns full if all are.
func (s *set) free(t *table, i int) int {
	if !s.full(i) {
		return i
	}
	for range 2 {
		var j int
		if t != nil {
			j = t.find(rand.Uint64())
		} else {
			j = rand.IntN(len(s.conns))
		}
		if !s.full(j) {
			return j
		}
	}
	for n := range s.conns {
		if j := (i + n) % len(s.conns); !s.full(j) {
			return j
		}
	}
	return full
}
