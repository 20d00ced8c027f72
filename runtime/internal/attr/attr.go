// Package attr carries discovery's state of a key through gRPC's resolver state to the load
// balancing policies: each endpoint in its own attributes, the rest in the attributes of the resolver state.
//
// An endpoint's own attributes are Endpoint.Attributes, because a change in Address.Attributes would cause
// a reconnect.
package attr

import (
	"maps"
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

// MaxRingWeight bounds the weight of an endpoint in ring-hash, which sums the weights of all endpoints in
// 32 bits: the sum of fewer than 65,536 weights does not overflow. For more weights, see RingShift.
const MaxRingWeight = 1 << 16

// value is an endpoint with an Equal method for attributes.Equal, which would otherwise panic on the endpoint's map.
type value struct {
	*endpoint.Endpoint
	methods string
}

func (v *value) Equal(o any) bool {
	other, ok := o.(*value)
	return ok && (v.Endpoint == other.Endpoint || v.Endpoint.Equal(*other.Endpoint))
}

// Storage holds the parts of gRPC's form of an endpoint in one allocation, because there may be ten thousand endpoints.
// It must not be copied once New has filled it.
type Storage struct {
	value      value
	attributes attributes.Attributes
	address    [1]resolver.Address
}

// New returns e in gRPC's form. Its attributes make ring-hash use the weight of e, and place e by instance id, so that
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

// RingShift returns by how many bits to shift the weights of n endpoints right, so that their sum always fits in 32
// bits. If the sum overflows, ring-hash makes an endless ring.
func RingShift(n int) uint { return uint(max(0, bits.Len(uint(n))-16)) }

// Scaled returns ep with its weight for ring-hash shifted right, at least 1. Endpoint(ep) keeps the original weight.
func Scaled(ep resolver.Endpoint, shift uint) resolver.Endpoint {
	return weight.Set(ep, weight.EndpointInfo{Weight: max(1, weight.FromEndpoint(ep).Weight>>shift)})
}

// Endpoint returns the endpoint from which New made ep, or nil if New did not make ep.
func Endpoint(ep resolver.Endpoint) *endpoint.Endpoint {
	if v, ok := ep.Attributes.Value(endpointKey{}).(*value); ok {
		return v.Endpoint
	}
	return nil
}

// Known returns ep if Endpoint(ep) is not nil. Otherwise it adds an endpoint with the address and the weight of ep.
func Known(ep resolver.Endpoint) resolver.Endpoint {
	if Endpoint(ep) == nil {
		addr := ep.Addresses[0].Addr
		e := &endpoint.Endpoint{Instance: addr, Addr: addr, Weight: weight.FromEndpoint(ep).Weight}
		ep.Attributes = ep.Attributes.WithValue(endpointKey{}, &value{Endpoint: e})
	}
	return ep
}

// Addresses returns endpoints as addresses, for policies that do not read resolver.State.Endpoints, such as those on gRPC's
// balancer/base.
func Addresses(endpoints []resolver.Endpoint) []resolver.Address {
	addresses := make([]resolver.Address, len(endpoints))
	for i, ep := range endpoints {
		//nolint:staticcheck // such policies read BalancerAttributes
		addresses[i] = resolver.Address{Addr: ep.Addresses[0].Addr, BalancerAttributes: ep.Attributes}
	}
	return addresses
}

// Methods returns the method list in an endpoint's entry, or "".
func Methods(ep resolver.Endpoint) string {
	if v, ok := ep.Attributes.Value(endpointKey{}).(*value); ok {
		return v.methods
	}
	return ""
}

type stateKey struct{}

// State is the part of a resolver's state that gRPC has no fields for. It is immutable.
type State struct {
	Client   *Client
	Key      string // with the namespace, for error texts
	Sequence uint64 // the number of the key's state, which grows with each change
	Pending  bool   // the endpoints are unknown, or etcd may have newer ones; calls that they cannot serve wait
	Health   string // the service config's healthCheckConfig, which gRPC passes to no policy
	Route    Route  // of the calls of Client.Routed
	Err      error  // tells callers why the key has no endpoints; nil if the key has some, or if they are unknown

	// Endpoints are the endpoints of the key, held ones included, sorted by instance. They are shared and
	// must not be written to.
	Endpoints []resolver.Endpoint
	InState   bool                // the resolver's state has Endpoints, too, which a parent policy may have filtered
	Held      map[string]struct{} // the addresses of Endpoints that etcd no longer has; may be nil

	// Away is the state of the key in the fallback cluster, nil without a fallback, or while the primary's
	// endpoints are unknown.
	Away *State
}

// All returns the endpoints of both clusters.
func (s *State) All() []resolver.Endpoint {
	if s.Away == nil || len(s.Away.Endpoints) == 0 {
		return s.Endpoints
	}
	return slices.Concat(s.Endpoints, s.Away.Endpoints)
}

// Input returns the input of a plan for a connection. Its endpoints are shared, unless a fallback has some of the same addresses.
func (s *State) Input(config *plan.Config, client *plan.Client) plan.Input[resolver.Endpoint] {
	in := plan.Input[resolver.Endpoint]{
		Service: s.Key, Config: config, Client: client, Endpoints: s.Endpoints, Held: s.Held, Err: s.Err,
		Of: func(ep *resolver.Endpoint) *endpoint.Endpoint { return Endpoint(*ep) },
	}
	if s.Away == nil {
		return in
	}
	in.Away = Except(s.Away.Endpoints, s.Endpoints)
	if len(s.Away.Held) > 0 {
		in.Held = maps.Clone(s.Away.Held)
		maps.Copy(in.Held, s.Held)
	}
	return in
}

// Except returns the endpoints whose addresses are not among others.
func Except(endpoints, others []resolver.Endpoint) []resolver.Endpoint {
	both := make(map[string]bool, len(endpoints)) // addresses of endpoints; true if others has the address, too
	for i := range endpoints {
		both[Address(&endpoints[i])] = false
	}
	for i := range others {
		if _, known := both[Address(&others[i])]; known {
			both[Address(&others[i])] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(endpoints), func(ep resolver.Endpoint) bool { return both[Address(&ep)] })
}

// Address returns the address of an endpoint, or "".
func Address(ep *resolver.Endpoint) string {
	if len(ep.Addresses) == 0 {
		return ""
	}
	return ep.Addresses[0].Addr
}

// String describes the state in gRPC's logs and channelz. The text is short, because gRPC calls String at each update.
func (s *State) String() string {
	if s.Pending {
		return "endpoints not known yet"
	}
	return strconv.Itoa(len(s.Endpoints)) + " endpoints"
}

// Route sends the calls of some methods to one instance of a key.
type Route struct {
	Instance      string // "" if none is known; then the calls wait
	Role          string // what the instance is, for error texts
	Header, Value string // request metadata of the calls
}

// Client describes a ClientConn to its policy.
type Client struct {
	plan.Client
	TargetsOnly bool                 // each call names its instance, so the policy connects only to named instances
	Routed      map[string]bool      // the full names of the methods whose calls follow State.Route; may be nil
	Stats       *picking.Memory      // statistics of addresses in both clusters, kept while gRPC is idle; nil: each policy has its own
	Report      func(problem string) // called with each problem of the service config; may be nil
	CallsLeave  func(bool)           // called with true when calls go to the fallback, and false when none do; may be nil
}

// Tell calls Report with each of the problems that is not among before.
func (c *Client) Tell(problems, before []string) {
	for _, problem := range problems {
		if c.Report != nil && !slices.Contains(before, problem) {
			c.Report(problem)
		}
	}
}

// SetState adds s to a resolver's state.
func SetState(state resolver.State, s *State) resolver.State {
	state.Attributes = state.Attributes.WithValue(stateKey{}, s)
	return state
}

// StateOf returns the State that SetState added, or nil if SetState was not called.
func StateOf(state resolver.State) *State {
	s, _ := state.Attributes.Value(stateKey{}).(*State)
	return s
}
