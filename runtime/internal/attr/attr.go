// Package attr carries discovery's state of a key through gRPC's resolver state to the load
// balancing policies: an endpoint in its own attributes, the rest in the state's.
//
// Endpoints carry it in Endpoint.Attributes, because a change in Address.Attributes would cause a
// reconnect.
package attr

import (
	"math/bits"
	"slices"
	"strconv"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
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

type stateKey struct{}

// State is the policy's input that gRPC's own fields do not carry, about a key and the connection. It is immutable.
type State struct {
	Client   *Client
	Key      string // with the namespace, for error texts
	Sequence uint64 // of the key's state: grows with each change
	Pending  bool   // the endpoints are unknown or may be behind etcd: calls that they cannot serve wait
	Health   string // the service config's healthCheckConfig, which gRPC passes to no policy
	Leader   Leader // that the connection's LeaderMethods are for
	Err      error  // why the key has no endpoints, for callers; nil if it has some or they are unknown

	// Endpoints are the endpoints of the key, held ones included, sorted by instance. They are shared and
	// must not be written to.
	Endpoints []resolver.Endpoint
	InState   bool                // the resolver's state has them, too; a policy above may have filtered them
	Held      map[string]struct{} // addresses of the Endpoints that etcd no longer has; nil: none

	// Away is the state of the key in the fallback cluster. nil: there is no fallback, or the primary's endpoints
	// are not known.
	Away *State
}

// All returns the endpoints of both clusters.
func (s *State) All() []resolver.Endpoint {
	if s.Away == nil || len(s.Away.Endpoints) == 0 {
		return s.Endpoints
	}
	return slices.Concat(s.Endpoints, s.Away.Endpoints)
}

// String describes the state in gRPC's logs and channelz. It is short: gRPC calls it at each update.
func (s *State) String() string {
	if s.Pending {
		return "endpoints not known yet"
	}
	return strconv.Itoa(len(s.Endpoints)) + " endpoints"
}

// Leader is the leader among the instances of a key.
type Leader struct {
	Instance string // "": no leader is known
	Token    int64  // the create revision of its candidate
}

// Client describes the policy's connection. There is one for each connection.
type Client struct {
	plan.Client
	TargetsOnly   bool                 // calls name their instance: connect to no other
	LeaderMethods map[string]struct{}  // the full names of the methods whose calls go to the leader; nil: none
	Stats         *picking.Memory      // of the calls to each address in both clusters, kept while gRPC is idle; nil: each policy has its own
	Report        func(problem string) // called with each problem of the service config; may be nil
	CallsLeave    func(bool)           // called when calls leave for the fallback or return; may be nil
}

// SetState adds s to a resolver's state.
func SetState(state resolver.State, s *State) resolver.State {
	state.Attributes = state.Attributes.WithValue(stateKey{}, s)
	return state
}

// StateOf returns the State that SetState added, nil if it was not called.
func StateOf(state resolver.State) *State {
	s, _ := state.Attributes.Value(stateKey{}).(*State)
	return s
}
