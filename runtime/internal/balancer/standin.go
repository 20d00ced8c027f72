package balancer

import (
	"encoding/json"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// equalName is the policy that stands in for round_robin beside options that only our own policies carry out. No config
// names it.
const equalName = "etcd_round_robin"

// equalBuilder shares the calls out evenly.
type equalBuilder struct{}

func (equalBuilder) Name() string { return equalName }

func (equalBuilder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	return parseBare(text, "it has no fields")
}

func (equalBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return newEveryReady(cc, opts, equal, newWeightedPicker)
}

// standIn returns p, a policy below e, with each policy in it that cannot carry out the options of e replaced by ours.
func standIn(p serviceconfig.Policy, e *serviceconfig.Etcd) serviceconfig.Policy {
	if e.SlowStart == nil && e.MaxConcurrentRequests == 0 {
		return p
	}
	if c, ok := p.Config.(*serviceconfig.OutlierDetection); ok {
		below := *c
		below.ChildPolicy = make([]serviceconfig.Policy, len(c.ChildPolicy))
		for i := range c.ChildPolicy {
			below.ChildPolicy[i] = standIn(c.ChildPolicy[i], e)
		}
		return serviceconfig.Policy{Name: p.Name, Config: &below}
	}
	switch {
	case p.Name == serviceconfig.RoundRobinName:
		p.Name = equalName
	case p.Name == serviceconfig.LeastRequestName && e.MaxConcurrentRequests > 0:
		p.Name = leastName
	}
	return p
}
