package balancer

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// Name is the policy's name in a service config.
const Name = serviceconfig.EtcdName

// config is the policy's config in the form that plans need. It can be marshalled and parsed again, as gRPC requires.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	planning.Config

	policy picking.Policy // nil if another package's policy picks
	others *othersConfig  // nil if our policy picks
}

// defaultConfig returns the policy's config for gRPC service configs that have no config for the policy.
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

// parseChild selects the policy that picks: the first child policy that is ours, or that the program links.
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

// configOf returns given as the policy's config, or the default config if given is nil.
func configOf(given grpcserviceconfig.LoadBalancingConfig) (*config, error) {
	c, ok := given.(*config)
	switch {
	case given != nil && !ok:
		return nil, fmt.Errorf("etcd: the policy \"etcd\" was given a config of type %T, which is another policy's", given)
	case c == nil:
		return defaultConfig()
	}
	return c, nil
}

func init() {
	balancer.Register(builder{})
	balancer.Register(alone{name: serviceconfig.WeightedName})
	balancer.Register(alone{name: serviceconfig.PeakEwmaName})
}

type builder struct{}

func (builder) Name() string { return Name }

func (builder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	return parseConfig(text)
}

func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return &switcher{cc: cc, opts: opts}
}

func newPolicy(cc balancer.ClientConn, opts balancer.BuildOptions) *policy {
	p := &policy{cc: cc, opts: opts, spawn: func(f func()) { go f() }, now: time.Now, memory: new(picking.Memory)}
	p.queue = &queue{start: func() { p.spawn(func() { p.do(func() {}) }) }}
	p.core = newCore(func(addr string) *picking.Stats { return p.memory.Of(addr) })
	p.targets = targets{core: &p.core, queue: p.queue, now: func() time.Time { return p.now() }}
	return p
}

// alone is a builder for service configs that name one of our child policies, such as "etcd_weighted", at the top level in
// place of "etcd".
type alone struct {
	builder
	name string
}

func (a alone) Name() string { return a.name }

func (a alone) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	etcd, err := json.Marshal(map[string]any{"childPolicy": []any{map[string]json.RawMessage{a.name: text}}})
	if err != nil {
		return nil, err
	}
	return parseConfig(etcd)
}
