package balancer

import "context"

// roundRobin gives every instance its turn.
type roundRobin struct{}

func (roundRobin) traits() traits { return traits{} }

func (roundRobin) pick(_ context.Context, _ *wishes, s *set) int {
	if s.slow == nil {
		return s.free(nil, s.tier.sequence.turn(len(s.conns)))
	}
	t := s.current()
	return s.free(t, t.find(s.tier.sequence.next()))
}
