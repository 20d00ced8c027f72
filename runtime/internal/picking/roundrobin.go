package picking

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// roundRobin picks the instances in turn.
type roundRobin struct{}

func (roundRobin) Traits() Traits { return Traits{} }

func (roundRobin) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	if s.SlowStart == nil {
		return s.free(nil, s.tier.sequence.turn(len(s.members)))
	}
	t := s.current()
	return s.free(t, t.find(s.tier.sequence.Next()))
}
