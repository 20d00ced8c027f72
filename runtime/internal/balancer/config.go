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
// parsed again, as gRPC requires.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	planning.Config

	policy picking.Policy // nil: another package's policy picks
	others *othersConfig  // nil: our policy picks
}

// defaultConfig returns the config of a policy without a given one.
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

// parseChild selects the policy that picks: the first child that is ours or linked.
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

// configOf returns the policy's config, the default one if given is nil.
func configOf(given grpcserviceconfig.LoadBalancingConfig) (*config, error) {
	c, ok := given.(*config)
	switch {
	case given != nil && !ok:
		return nil, fmt.Errorf("etcd: the policy was given the config of another policy: %T", given)
	case c == nil:
		return defaultConfig()
	}
	return c, nil
}
