// Package attr carries what etcd says of an endpoint through gRPC's resolver state to the load
// balancing policies.
//
// It all travels in Endpoint.Attributes: a change there reaches the policies without a reconnect,
// which a change in Address.Attributes would cause.
package attr

import (
	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/endpoint"
)

type endpointKey struct{}

// value makes endpoints comparable for attributes.Equal, which would panic on the map inside.
type value struct{ *endpoint.Endpoint }

func (v value) Equal(o any) bool {
	other, ok := o.(value)
	return ok && (v.Endpoint == other.Endpoint || v.Endpoint.Equal(*other.Endpoint))
}

// New returns e as gRPC sees it. Ring-hash places it by its instance id, so that an instance keeps
// its keys when its address changes, and honours its weight. e must not change afterwards.
func New(e *endpoint.Endpoint) resolver.Endpoint {
	ep := resolver.Endpoint{
		Addresses:  []resolver.Address{{Addr: e.Addr}},
		Attributes: attributes.New(endpointKey{}, value{e}),
	}
	ep = ringhash.SetHashKey(ep, e.Instance)
	return weight.Set(ep, weight.EndpointInfo{Weight: max(1, e.Weight)})
}

// Endpoint returns what New was given, nil for an endpoint made otherwise.
func Endpoint(ep resolver.Endpoint) *endpoint.Endpoint {
	v, _ := ep.Attributes.Value(endpointKey{}).(value)
	return v.Endpoint
}

type troubleKey struct{}

// SetTrouble has state say why it has no endpoints.
func SetTrouble(state resolver.State, err error) resolver.State {
	state.Attributes = state.Attributes.WithValue(troubleKey{}, err)
	return state
}

// Trouble returns what SetTrouble was given, or nil.
func Trouble(state resolver.State) error {
	err, _ := state.Attributes.Value(troubleKey{}).(error)
	return err
}

type targetsOnlyKey struct{}

// SetTargetsOnly has the policy connect only to the instances that calls name.
func SetTargetsOnly(state resolver.State) resolver.State {
	state.Attributes = state.Attributes.WithValue(targetsOnlyKey{}, true)
	return state
}

// TargetsOnly tells whether SetTargetsOnly was called.
func TargetsOnly(state resolver.State) bool {
	set, _ := state.Attributes.Value(targetsOnlyKey{}).(bool)
	return set
}
