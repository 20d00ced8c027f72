// Package attr carries discovery's state of a key through gRPC's resolver state to the load
// balancing policies: an endpoint in its own attributes (attr.go), the rest in the state's (state.go).
//
// Endpoints carry it in Endpoint.Attributes, because a change in Address.Attributes would cause a
// reconnect.
package attr

import (
	"math/bits"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

type endpointKey struct{}

// MaxRingWeight bounds the weight of an endpoint in ring-hash, which sums the weights of a set in 32
// bits: fewer than 65,536 endpoints never overflow it. For more, see RingShift.
const MaxRingWeight = 1 << 16

// value makes endpoints comparable for attributes.Equal, which would panic on the map inside.
type value struct {
	*endpoint.Endpoint
	methods string
}

func (v *value) Equal(o any) bool {
	other, ok := o.(*value)
	return ok && (v.Endpoint == other.Endpoint || v.Endpoint.Equal(*other.Endpoint))
}

// Storage backs gRPC's form of an endpoint in one allocation: there may be ten thousand endpoints.
// It must not be copied once New has filled it.
type Storage struct {
	value      value
	attributes attributes.Attributes
	address    [1]resolver.Address
}

// New returns e in gRPC's form. Ring-hash honours its weight, and places it by its instance id, so that
// an instance keeps its keys when its address changes. Attributes that equal ring-hash's defaults are left
// out. Neither e nor storage may change afterwards.
func New(e *endpoint.Endpoint, storage *Storage) resolver.Endpoint {
	storage.value = value{Endpoint: e}
	if methods := e.Metadata[endpoint.MethodsName]; len(methods) <= endpoint.MaxMethods {
		storage.value.methods = methods
	}
	storage.attributes = *attributes.New(endpointKey{}, &storage.value)
	storage.address[0].Addr = e.Addr
	ep := resolver.Endpoint{Addresses: storage.address[:], Attributes: &storage.attributes}
	if e.Instance != e.Addr {
		ep = ringhash.SetHashKey(ep, e.Instance)
	}
	if e.Weight > 1 {
		ep = weight.Set(ep, weight.EndpointInfo{Weight: min(e.Weight, MaxRingWeight)})
	}
	return ep
}

// RingShift returns by how many bits the weights of n endpoints are shifted right, so that their sum always fits in 32
// bits. If the sum overflows, ring-hash makes an endless ring.
func RingShift(n int) uint { return uint(max(0, bits.Len(uint(n))-16)) }

// Scaled returns ep with its weight in ring-hash shifted right, at least 1. Endpoint(ep) keeps its
// weight.
func Scaled(ep resolver.Endpoint, shift uint) resolver.Endpoint {
	return weight.Set(ep, weight.EndpointInfo{Weight: max(1, weight.FromEndpoint(ep).Weight>>shift)})
}

// Endpoint returns the endpoint that New was given, nil if ep was made otherwise.
func Endpoint(ep resolver.Endpoint) *endpoint.Endpoint {
	if v, ok := ep.Attributes.Value(endpointKey{}).(*value); ok {
		return v.Endpoint
	}
	return nil
}

// Known returns ep with an Endpoint. It makes one of ep's address and weight if New did not make ep.
func Known(ep resolver.Endpoint) resolver.Endpoint {
	if Endpoint(ep) == nil {
		addr := ep.Addresses[0].Addr
		e := &endpoint.Endpoint{Instance: addr, Addr: addr, Weight: weight.FromEndpoint(ep).Weight}
		ep.Attributes = ep.Attributes.WithValue(endpointKey{}, &value{Endpoint: e})
	}
	return ep
}

// Addresses returns endpoints as addresses, for policies older than endpoints, such as those built on gRPC's balancer/base.
func Addresses(endpoints []resolver.Endpoint) []resolver.Address {
	addresses := make([]resolver.Address, len(endpoints))
	for i, ep := range endpoints {
		//nolint:staticcheck // such policies read BalancerAttributes
		addresses[i] = resolver.Address{Addr: ep.Addresses[0].Addr, BalancerAttributes: ep.Attributes}
	}
	return addresses
}

// Methods returns the text with an endpoint's methods, "" if it lists none.
func Methods(ep resolver.Endpoint) string {
	if v, ok := ep.Attributes.Value(endpointKey{}).(*value); ok {
		return v.methods
	}
	return ""
}
