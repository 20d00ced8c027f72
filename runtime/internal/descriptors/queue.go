package descriptors

import (
	"cmp"
	"slices"
)

// rank orders the places that wait.
type rank int

const (
	named  rank = iota // a call names its instance
	proven             // was connected before
	fresh
	failing           // waits for the pace, too
	first   rank = -1 // its gRPC connection holds none
)

// bound returns how many descriptors may be in use once a place of a rank is taken.
func (c *core) bound(r rank) int {
	kept := c.limit / 16
	switch r {
	case first:
		return c.limit
	case named:
		return c.limit - kept
	default:
		return c.limit - 2*kept
	}
}

// next returns the place that is next to be held, and its rank; nil if none waits. turn says that it may be one
// that has failed.
func (c *core) next(turn bool) (best *place, by rank) {
	for _, s := range c.sharing {
		p, r := s.next(turn)
		if p == nil {
			continue
		}
		if best == nil || cmp.Or(cmp.Compare(r, by), cmp.Compare(s.held, best.share.held), cmp.Compare(p.arrival, best.arrival)) < 0 {
			best, by = p, r
		}
	}
	return best, by
}

// next returns the place of the share that is next, and its rank; nil if none waits.
func (s *share) next(turn bool) (*place, rank) {
	for r := range s.waits {
		e := s.waits[r].Front()
		switch {
		case e == nil || rank(r) == failing && !turn:
		case s.held == 0:
			return e.Value.(*place), first
		default:
			return e.Value.(*place), rank(r)
		}
	}
	return nil, 0
}

// waiting returns how many places of the share wait.
func (s *share) waiting() (n int) {
	for i := range s.waits {
		n += s.waits[i].Len()
	}
	return n
}

// rankOf returns the rank that a place waits in.
func (p *place) rankOf() rank {
	switch {
	case p.target:
		return named
	case p.failing:
		return failing
	case p.proven:
		return proven
	}
	return fresh
}

// enqueue puts a place behind the others of its rank.
func (c *core) enqueue(p *place) {
	if p.share.waiting() == 0 {
		c.sharing = append(c.sharing, p.share)
	}
	c.waiting++
	c.arrivals++
	p.state, p.rank, p.arrival = waiting, p.rankOf(), c.arrivals
	p.at = p.share.waits[p.rank].PushBack(p)
	if !p.refused {
		c.untold = append(c.untold, p)
	}
}

// dequeue takes a place that waits out of the queue. Whether it was refused is kept.
func (c *core) dequeue(p *place) {
	c.waiting--
	p.share.waits[p.rank].Remove(p.at)
	p.state = idle
	if p.share.waiting() == 0 {
		c.sharing = slices.DeleteFunc(c.sharing, func(s *share) bool { return s == p.share })
	}
	if !p.refused {
		c.untold = slices.DeleteFunc(c.untold, func(u *place) bool { return u == p })
	}
}
