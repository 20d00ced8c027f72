package picking

import (
	"cmp"
	"math/bits"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

const (
	// steps is the number of steps in which a share grows. A short window has
	// fewer steps: a step takes at least minStep.
	steps   = 100
	minStep = 50 * time.Millisecond

	// shareUnits is the integer that stands for a full share, 1.0, when a
	// weight is multiplied by a share.
	shareUnits = 10_000
)

// table holds the shares of a set's members at one time. It is immutable.
type table struct {
	// the time of the next growth of a share, since epoch; 0 if no share grows
	until time.Duration

	// for each member, the sum of the weights up to and including that member's
	sums []uint64

	// the part of each member's weight that counts, from 0 to 1; nil if all are
	// 1
	shares []float64
}

// current returns the table for the current time. It reads the clock only while
// a share grows.
func (s *Set) current() *table {
	if t := s.table.Load(); t != nil && t.until == 0 {
		return t
	}

	return s.currentAt(sinceEpoch())
}

// currentAt returns the table for the time now. If the stored table is out of
// date, each concurrent caller makes a new one.
func (s *Set) currentAt(now time.Duration) *table {
	current := s.table.Load()
	if current != nil && (current.until == 0 || now < current.until) {
		return current
	}

	next := s.makeTable(now)
	s.table.CompareAndSwap(current, next)

	return next
}

func (s *Set) makeTable(now time.Duration) *table {
	t := &table{sums: make([]uint64, len(s.members))}
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
		t.sums[i] = total
	}

	return t
}

// grown returns the members' shares at now, and the time of the next growth. It
// returns nil and 0 if no share grows.
func (s *Set) grown(now time.Duration) (shares []float64, until time.Duration) {
	all := make([]float64, len(s.members))
	for i, x := range s.members {
		share, grows := x.start.Load().share(s.SlowStart, now)
		all[i] = share
		if grows {
			shares = all
			until = now + max(minStep, time.Duration(s.SlowStart.Window)/steps)
		}
	}

	return shares, until
}

// grows reports whether the share of member i still grows.
func (t *table) grows(i int) bool {
	return t != nil && t.shares != nil && t.shares[i] < 1
}

// find divides the range of uint64 among the members by their weights, and
// returns the index of the member whose part contains n.
func (t *table) find(n uint64) int {
	at, _ := bits.Mul64(n, t.sums[len(t.sums)-1])
	low := 0
	high := len(t.sums) - 1
	for low < high { // sort.Search takes twice as long
		if half := int(uint(low+high) >> 1); at < t.sums[half] {
			high = half
		} else {
			low = half + 1
		}
	}

	return low
}

// start is the slow start of an address. It is immutable.
type start struct {
	startTime string // the start time of the server, as text in its entry
	valid     bool   // startTime is a valid time, so since and uptime are set

	// when the address was first ready with startTime, since epoch
	since time.Duration

	uptime time.Duration // how long the server had run by then, if the clocks agree
}

// share returns the share of an address at now, at most 1, and whether that
// share still grows.
func (s *start) share(
	config *serviceconfig.SlowStart,
	now time.Duration,
) (share float64, grows bool) {
	if s == nil || config == nil {
		return 1, false
	}

	window := time.Duration(config.Window)
	age := now - s.since
	if !s.valid || s.uptime > window || age >= window {
		return 1, false
	}

	initial := float64(
		cmp.Or(config.MinPercent, serviceconfig.DefaultSlowStartPercent)) / 100

	return initial + (1-initial)*max(0, float64(age))/float64(window), true
}
