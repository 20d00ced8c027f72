package picking

import (
	"math/rand/v2"
	"sync/atomic"
)

// Sequence yields numbers. Any run of them is spread evenly over uint64: multiples of the golden
// ratio, modulo 1. So shares are exact, not just on average. Each choice has its own sequence: with one sequence
// for the choices of the group and the member, a group would always get the same members.
type Sequence struct{ i atomic.Uint64 }

// Shuffle starts the sequence at random, so that many clients with one call each choose differently.
func (s *Sequence) Shuffle() { s.i.Store(rand.Uint64()) }

// Next returns the next number.
func (s *Sequence) Next() uint64 { return s.i.Add(1) * 0x9e3779b97f4a7c15 }

// turn returns the next of n in turn.
func (s *Sequence) turn(n int) int { return int(uint32(s.i.Add(1)) % uint32(n)) }
