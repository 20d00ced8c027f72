package balancer

import (
	"encoding/json"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// Name is the policy's name in a service config.
const Name = serviceconfig.EtcdName

// config is the policy's config, with parts of it in the form that plans need. It can be marshalled and
// parsed again, as gRPC demands of a policy's config.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	planning.Config

	policy picking.Policy // nil: a policy of others picks
	others *othersConfig  // nil: a policy of ours picks
}

// defaultConfig returns the config of a policy that was given none.
var defaultConfig = sync.OnceValues(func() (*config, error) { return parseConfig(json.RawMessage("{}")) })

func parseConfig(text json.RawMessage) (*config, error) {
	e, err := serviceconfig.ParseEtcd(text)
	if err != nil {
		return nil, err
	}
	c := &config{Config: *planning.NewConfig(e)}
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
	if c.policy = picking.Of(policy); c.policy == nil {
		c.others, err = parseOthers(policy)
	}
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
