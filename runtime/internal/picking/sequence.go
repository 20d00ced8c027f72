package picking

import (
	"math/rand/v2"
	"sync/atomic"
)

// Sequence yields numbers. Any run of them is spread evenly over all of uint64: multiples of the golden
// ratio, modulo 1. So shares are kept exactly, not just on average. Each choice has a sequence of its own: with one sequence
// for the choice of the group and the choice of the member, a group would always get the same members.
type Sequence struct{ i atomic.Uint64 }

// Shuffle starts the sequence anywhere, so that many clients that make one call each choose differently.
func (s *Sequence) Shuffle() { s.i.Store(rand.Uint64()) }

// Next returns the next number.
func (s *Sequence) Next() uint64 { return s.i.Add(1) * 0x9e3779b97f4a7c15 }

// turn returns whose turn of n it is.
func (s *Sequence) turn(n int) int { return int(uint32(s.i.Add(1)) % uint32(n)) }
