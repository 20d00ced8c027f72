package balancer

import (
	"encoding/json"
	"errors"
	"math/bits"
	"sort"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
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

type weightedConfig struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`
}

func (weightedBuilder) ParseConfig(text json.RawMessage) (grpcserviceconfig.LoadBalancingConfig, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	if len(fields) > 0 {
		return nil, errors.New("it has no fields: the weights are the endpoints'")
	}
	return &weightedConfig{}, nil
}

func (weightedBuilder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	w := &weighted{ClientConn: cc}
	w.sequence.shuffle()
	w.Balancer = endpointsharding.NewBalancer(w, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return w
}

// weighted connects to every endpoint, as round_robin does, and shares the calls out by weight. A
// new weight comes with the endpoint's attributes, so it takes effect without a reconnect.
type weighted struct {
	balancer.Balancer   // a pick_first an endpoint
	balancer.ClientConn // gRPC's
	sequence            sequence
}

func (w *weighted) UpdateClientConnState(s balancer.ClientConnState) error {
	return w.Balancer.UpdateClientConnState(balancer.ClientConnState{
		// For client-side health checks and outlier detection, where they are asked for.
		ResolverState: pickfirst.EnableHealthListener(s.ResolverState),
	})
}

// UpdateState implements [balancer.ClientConn]. If endpoints are ready, it replaces the picker, which
// takes turns, by one that goes by weight.
func (w *weighted) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		p := &weightedPicker{sequence: &w.sequence}
		for _, child := range endpointsharding.ChildStatesFromPicker(s.Picker) {
			if child.State.ConnectivityState == connectivity.Ready {
				p.total += weightOf(child.Endpoint)
				p.upTo = append(p.upTo, p.total)
				p.pickers = append(p.pickers, child.State.Picker)
			}
		}
		s.Picker = p
	}
	w.ClientConn.UpdateState(s)
}

// weightOf returns an endpoint's static weight, at least 1.
func weightOf(ep resolver.Endpoint) uint64 {
	if e := attr.Endpoint(ep); e != nil {
		return uint64(max(1, e.Weight))
	}
	return uint64(max(1, weight.FromEndpoint(ep).Weight))
}

// weightedPicker picks among endpoints that are ready.
type weightedPicker struct {
	sequence *sequence
	total    uint64
	upTo     []uint64 // the sum of the weights up to and with each endpoint's
	pickers  []balancer.Picker
}

func (p *weightedPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	at, _ := bits.Mul64(p.sequence.next(), p.total)
	i := sort.Search(len(p.upTo), func(i int) bool { return at < p.upTo[i] })
	return p.pickers[i].Pick(info)
}
