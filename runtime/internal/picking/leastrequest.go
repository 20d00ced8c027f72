package picking

import (
	"cmp"
	"context"
	"math/rand/v2"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// leastRequest draws some instances, and picks the drawn one with the fewest calls under way.
type leastRequest struct{ choices int }

func newLeastRequest(c *serviceconfig.LeastRequest) leastRequest {
	return leastRequest{int(cmp.Or(c.ChoiceCount, serviceconfig.DefaultChoiceCount))}
}

func (leastRequest) Traits() Traits { return Traits{Counts: true} }

func (l leastRequest) Pick(_ context.Context, _ *calloptions.Options, s *Set) int {
	best := s.free(nil, rand.IntN(len(s.members)))
	if best < 0 {
		return best
	}
	for range l.choices - 1 {
		if i := rand.IntN(len(s.members)); s.members[i].UnderWay() < s.members[best].UnderWay() {
			best = i
		}
	}
	return best
}
