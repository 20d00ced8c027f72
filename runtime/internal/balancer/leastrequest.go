package balancer

import (
	"encoding/json"
	"math/rand/v2"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// leastName is the policy that stands in for least_request where calls under way are bounded. No config names it.
const leastName = "etcd_least_request"

type leastBuilder struct{}

func (leastBuilder) Name() string { return leastName }

type leastConfig struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	serviceconfig.LeastRequest
}

func (leastBuilder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	c := &leastConfig{}
	err := json.Unmarshal(text, &c.LeastRequest)
	c.ChoiceCount = min(max(c.ChoiceCount, serviceconfig.MinChoiceCount), serviceconfig.MaxChoiceCount)
	return c, err
}

func (leastBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return newEveryReady(cc, opts, equal, newLeastPicker)
}

// leastPicker draws some endpoints, and picks the one of these with the fewest calls under way, as the bound counts them.
type leastPicker struct{ *readySet }

func newLeastPicker(s *readySet) balancer.Picker {
	s.seated = true
	return leastPicker{s}
}

func (p leastPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	t := p.current()
	best := t.free(rand.IntN(len(p.members)))
	if best < 0 {
		return balancer.PickResult{}, p.allFull(t)
	}
	for range p.choices - 1 {
		if j := rand.IntN(len(p.members)); t.stations[j].calls.Load() < t.stations[best].calls.Load() {
			best = j
		}
	}
	return p.members[best].picker.Pick(info)
}
