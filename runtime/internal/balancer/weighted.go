package balancer

import (
	"encoding/json"
	"errors"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// WeightedName is the name of the policy that picks by the endpoints' static weights.
const WeightedName = serviceconfig.WeightedName

type weightedBuilder struct{}

func (weightedBuilder) Name() string { return WeightedName }

// bareConfig is the config of a policy without fields.
type bareConfig struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
}

func (weightedBuilder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	return parseBare(text, "it has no fields: the weights are the endpoints'")
}

// parseBare parses the config of a policy without fields. refusal is the error if there is one nevertheless.
func parseBare(text json.RawMessage, refusal string) (grpcserviceconfig.LoadBalancingConfig, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	if len(fields) > 0 {
		return nil, errors.New(refusal)
	}
	return &bareConfig{}, nil
}

func (weightedBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return newEveryReady(cc, opts, weightOf, newWeightedPicker)
}

// weightOf returns an endpoint's static weight, at least 1.
func weightOf(ep resolver.Endpoint) uint64 {
	if e := attr.Endpoint(ep); e != nil {
		return uint64(max(1, e.Weight))
	}
	return uint64(max(1, weight.FromEndpoint(ep).Weight))
}

// weightedPicker shares the calls out by weight.
type weightedPicker struct{ *readySet }

func newWeightedPicker(s *readySet) balancer.Picker { return weightedPicker{s} }

func (p weightedPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	t := p.current()
	i := t.free(t.find(p.sequence.next()))
	if i < 0 {
		return balancer.PickResult{}, p.allFull(t)
	}
	return p.members[i].picker.Pick(info)
}
