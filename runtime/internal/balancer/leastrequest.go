package balancer

import (
	"context"
	"math/rand/v2"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// leastRequest draws some instances, and picks the one of these with the fewest calls under way.
type leastRequest struct{ choices int }

func newLeastRequest(c *serviceconfig.LeastRequest) leastRequest {
	return leastRequest{int(min(max(c.ChoiceCount, serviceconfig.MinChoiceCount), serviceconfig.MaxChoiceCount))}
}

func (leastRequest) traits() traits { return traits{counts: true} }

func (l leastRequest) pick(_ context.Context, _ *wishes, s *set) int {
	best := s.free(nil, rand.IntN(len(s.conns)))
	if best < 0 {
		return best
	}
	for range l.choices - 1 {
		if i := rand.IntN(len(s.conns)); s.conns[i].calls.Load() < s.conns[best].calls.Load() {
			best = i
		}
	}
	return best
}
