package balancer

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// Name is the policy's name in a service config.
const Name = serviceconfig.EtcdName

// config is the policy's config in the form that plans need. It can be
// marshalled and parsed again, as gRPC requires.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
	planner.Config

	policy picking.Policy
}

// defaultConfig returns the policy's config for gRPC service configs that have
// no config for the policy.
var defaultConfig = sync.OnceValues(func() (*config, error) {
	return parseConfig(json.RawMessage("{}"))
})

func parseConfig(text json.RawMessage) (*config, error) {
	e, err := serviceconfig.ParseEtcd(text)
	if err != nil {
		return nil, err
	}

	return &config{
		Config: *planner.NewConfig(e),
		policy: picking.Of(e.ChildPolicy[0]),
	}, nil
}

// configOf returns given as the policy's config, or the default config if given
// is nil.
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

	for _, p := range serviceconfig.Picking {
		if strings.HasPrefix(p.Name, Name+"_") { // gRPC registers the others
			balancer.Register(child{name: p.Name})
		}
	}
}

type builder struct{}

func (builder) Name() string {
	return Name
}

func (builder) ParseConfig(
	text json.RawMessage,
) (grpcserviceconfig.LoadBalancingConfig, error) {
	return parseConfig(text)
}

func (builder) Build(
	cc balancer.ClientConn,
	opts balancer.BuildOptions,
) balancer.Balancer {
	return newPolicy(cc, opts)
}

func newPolicy(cc balancer.ClientConn, opts balancer.BuildOptions) *policy {
	// no error: the default config names only policies that are always linked
	c, _ := defaultConfig()
	in := newInput(&model.State{Client: bareClient, Name: opts.Target.Endpoint()}, c)
	p := &policy{cc: cc, opts: opts, now: time.Now, memory: new(picking.Memory), in: in}
	p.queue = &queue{start: func() { go p.do(func() {}) }}
	p.core = newCore(func(addr string) *picking.Stats {
		return p.memory.Of(addr)
	}, targetsOnly(in))
	p.targets = targets{core: &p.core, queue: p.queue, now: func() time.Time {
		return p.now()
	}}

	return p
}

// child is a builder for service configs that name one of our child policies,
// such as "etcd_weighted", at the top level in place of "etcd".
type child struct {
	builder
	name string
}

func (b child) Name() string {
	return b.name
}

func (b child) ParseConfig(
	text json.RawMessage,
) (grpcserviceconfig.LoadBalancingConfig, error) {
	etcd, err := json.Marshal(map[string]any{
		"childPolicy": []any{map[string]json.RawMessage{b.name: text}},
	})
	if err != nil {
		return nil, err
	}

	return parseConfig(etcd)
}
