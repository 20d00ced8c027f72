package balancer

import (
	"context"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
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

// weightOf returns an endpoint's static weight, at least 1.
func weightOf(ep *resolver.Endpoint) uint64 {
	if e := attr.Endpoint(*ep); e != nil {
		return uint64(max(1, e.Weight))
	}
	return uint64(max(1, weight.FromEndpoint(*ep).Weight))
}
