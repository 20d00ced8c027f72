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

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

type endpointKey struct{}

// maxRingWeight bounds the weight that ring-hash goes by: it adds weights up in 32 bits, and what
// overflows makes a ring without end.
const maxRingWeight = 1 << 16

// value makes endpoints comparable for attributes.Equal, which would panic on the map inside.
type value struct {
	*endpoint.Endpoint
	methods string
}

func (v *value) Equal(o any) bool {
	other, ok := o.(*value)
	return ok && (v.Endpoint == other.Endpoint || v.Endpoint.Equal(*other.Endpoint))
}

// Room is what an endpoint takes beside itself as gRPC sees it, in one piece: there may be ten
// thousand. It must not be copied once New has filled it.
type Room struct {
	value      value
	attributes attributes.Attributes
	address    [1]resolver.Address
}

// New returns e as gRPC sees it. Ring-hash places it by its instance id, so that an instance keeps
// its keys when its address changes, and honours its weight; what it would assume anyway is left
// out. Neither e nor room may change afterwards.
func New(e *endpoint.Endpoint, room *Room) resolver.Endpoint {
	room.value = value{e, e.Metadata[endpoint.MethodsName]}
	room.attributes = *attributes.New(endpointKey{}, &room.value)
	room.address[0].Addr = e.Addr
	ep := resolver.Endpoint{Addresses: room.address[:], Attributes: &room.attributes}
	if e.Instance != e.Addr {
		ep = ringhash.SetHashKey(ep, e.Instance)
	}
	if e.Weight > 1 {
		ep = weight.Set(ep, weight.EndpointInfo{Weight: min(e.Weight, maxRingWeight)})
	}
	return ep
}

// Endpoint returns what New was given, nil for an endpoint made otherwise.
func Endpoint(ep resolver.Endpoint) *endpoint.Endpoint {
	if v, ok := ep.Attributes.Value(endpointKey{}).(*value); ok {
		return v.Endpoint
	}
	return nil
}

// Address is what an endpoint is for policies that were written before there were endpoints.
func Address(ep resolver.Endpoint) resolver.Address {
	return resolver.Address{
		Addr:               ep.Addresses[0].Addr,
		BalancerAttributes: ep.Attributes, //nolint:staticcheck // where such policies look for them
	}
}

// Addresses is what endpoints are for policies that were written before there were endpoints, as those
// of gRPC's package balancer/base.
func Addresses(endpoints []resolver.Endpoint) []resolver.Address {
	addresses := make([]resolver.Address, len(endpoints))
	for i, ep := range endpoints {
		addresses[i] = Address(ep)
	}
	return addresses
}

// Methods returns the methods that an endpoint says it serves, "" where it does not say.
func Methods(ep resolver.Endpoint) string {
	if v, ok := ep.Attributes.Value(endpointKey{}).(*value); ok {
		return v.methods
	}
	return ""
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

type clientKey struct{}

// Client is what the policy is to know of the connection that it is for.
type Client struct {
	Zone        string       // that the process runs in, "" unknown
	TargetsOnly bool         // calls name their instance: connect to no other
	Report      func(string) // told what is odd about the service config, may be nil
}

// SetClient adds what a state says of its connection.
func SetClient(state resolver.State, c *Client) resolver.State {
	state.Attributes = state.Attributes.WithValue(clientKey{}, c)
	return state
}

// ClientOf returns what SetClient was given.
func ClientOf(state resolver.State) Client {
	if c, ok := state.Attributes.Value(clientKey{}).(*Client); ok {
		return *c
	}
	return Client{}
}
