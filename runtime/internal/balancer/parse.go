package balancer

import (
	"encoding/json"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// defaultConfig returns the config of a policy that was given none.
var defaultConfig = sync.OnceValues(func() (*config, error) { return parseConfig(json.RawMessage("{}")) })

func parseConfig(text json.RawMessage) (*config, error) {
	e, err := serviceconfig.ParseEtcd(text)
	if err != nil {
		return nil, err
	}
	c := &config{
		Etcd: *e, drained: make(map[string]struct{}, len(e.Drain)),
		matcher: serviceconfig.NewMatcher(e.Split), lanes: serviceconfig.NewLanes(e.Route),
	}
	for _, name := range e.Drain {
		c.drained[name] = struct{}{}
	}
	if err := c.parseChild(); err != nil {
		return nil, fmt.Errorf("policy %q: childPolicy: %w", Name, err)
	}
	return c, nil
}

// parseChild finds out how c picks: by the first of its policies that is ours or linked.
func (c *config) parseChild() error {
	policy, err := serviceconfig.FirstLinked(c.ChildPolicy, func(name string) bool { return serviceconfig.Ours(name) || balancer.Get(name) != nil })
	if err != nil {
		return err
	}
	if c.way = wayOf(policy); c.way != nil {
		return nil
	}
	c.below, err = parseBelow(policy)
	return err
}

// configOf returns the policy's config, the default one if gRPC gave none.
func configOf(given grpcserviceconfig.LoadBalancingConfig) (*config, error) {
	c, ok := given.(*config)
	switch {
	case given != nil && !ok:
		return nil, fmt.Errorf("etcd: the policy was given the config of another: %T", given)
	case c == nil:
		return defaultConfig()
	}
	return c, nil
}

// alone is the config of a policy of ours that stands by itself, as in a service config that names "etcd_weighted" where
// "etcd" would stand.
type alone struct{ name string }

func (a alone) Name() string { return a.name }

func (a alone) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return builder{}.Build(cc, opts)
}

func (a alone) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	below, err := json.Marshal(map[string]any{"childPolicy": []any{map[string]json.RawMessage{a.name: text}}})
	if err != nil {
		return nil, err
	}
	return parseConfig(below)
}

// wayOf returns the way that a policy picks, nil if it is not ours.
func wayOf(policy serviceconfig.Policy) way {
	switch c := policy.Config.(type) {
	case *serviceconfig.PickFirst:
		return pickFirst{shuffled: c.ShuffleAddressList}
	case *serviceconfig.LeastRequest:
		return newLeastRequest(c)
	case *serviceconfig.RingHash:
		return newRingHash(c)
	}
	switch policy.Name {
	case serviceconfig.RoundRobinName:
		return roundRobin{}
	case serviceconfig.WeightedName:
		return weighted{}
	case serviceconfig.PeakEwmaName:
		return peakEwma{}
	}
	return nil
}

func parseBelow(policy serviceconfig.Policy) (*belowConfig, error) {
	text, err := policy.ConfigJSON()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policy.Name, err)
	}
	b := &belowConfig{builder: balancer.Get(policy.Name), text: string(text)}
	if parser, ok := b.builder.(balancer.ConfigParser); ok {
		parse := func() (err error) { b.config, err = parser.ParseConfig(text); return err }
		if err := recovered(parse); err != nil {
			return nil, fmt.Errorf("%s: %w", policy.Name, err)
		}
	}
	return b, nil
}
