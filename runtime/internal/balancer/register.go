package balancer

import (
	"encoding/json"
	"time"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

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

// alone is one of our policies without "etcd" above it, as in a service config that names "etcd_weighted" in place of
// "etcd".
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
