package picking

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// weighted divides the calls by the endpoints' weights.
type weighted struct{}

func (weighted) Traits() Traits { return Traits{Weighs: true} }

func (weighted) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	t := s.current()
	return s.free(t, t.find(s.tier.sequence.Next()))
}
