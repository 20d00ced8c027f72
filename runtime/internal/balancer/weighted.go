package balancer

import (
	"context"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// WeightedName is the name of the policy that picks by the endpoints' static weights.
const WeightedName = serviceconfig.WeightedName

// weighted shares the calls out by the endpoints' weights.
type weighted struct{}

func (weighted) traits() traits { return traits{weighs: true} }

func (weighted) pick(_ context.Context, _ *wishes, s *set) int {
	t := s.current()
	return s.free(t, t.find(s.tier.sequence.next()))
}
