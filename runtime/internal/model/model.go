// Package model has the types that describe a key to all parts of a client: its
// endpoints, its state, and the client itself. Discovery makes a state, and the
// attributes of gRPC's resolver state carry it to the load balancing policies.
//
// For policies of other packages, each endpoint also has attributes of its own.
// They are in Endpoint.Attributes, because a change of Address.Attributes would
// cause a reconnect.
package model

import (
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/ringhash"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// Backend is an endpoint of a key, as discovery and the policies use it. All
// connections share it. It is immutable.
type Backend struct {
	Endpoint endpoint.Endpoint
	Layout   endpoint.Layout // of the endpoint's entry in etcd
	Leaving  bool            // the entry is marked as leaving
	Methods  string          // the method list in the entry, or ""

	// the lease and the create revision of the entry; 0 if unknown
	Lease, Created int64

	grpc atomic.Pointer[resolver.Endpoint] // what GRPC returns; nil before its first call
}

// New returns the backend of an endpoint. It ignores a method list that is too
// long.
func New(e endpoint.Endpoint, layout endpoint.Layout) *Backend {
	b := &Backend{Endpoint: e, Layout: layout, Leaving: e.Leaving()}
	if methods := e.Metadata[endpoint.MethodsName]; len(methods) <= endpoint.MaxMethods {
		b.Methods = methods
	}

	return b
}

// Equal reports whether b and o have equal endpoints and layouts, and belong to
// the same server process.
func (b *Backend) Equal(o *Backend) bool {
	return b == o ||
		b.Layout == o.Layout && b.Endpoint.Equal(o.Endpoint) && !b.Restarted(o)
}

// Restarted reports whether the server of b has registered again since o was
// read. Few layouts record when a server has started.
func (b *Backend) Restarted(o *Backend) bool {
	started := b.Endpoint.Metadata[endpoint.StartedName]

	return started != "" && started != o.Endpoint.Metadata[endpoint.StartedName] ||
		b.Lease != o.Lease ||
		b.Created != o.Created
}

// Compare orders backends by instance, then by address.
func Compare(a, b *Backend) int {
	if a.Endpoint.Instance != b.Endpoint.Instance {
		return strings.Compare(a.Endpoint.Instance, b.Endpoint.Instance)
	}

	return strings.Compare(a.Endpoint.Addr, b.Endpoint.Addr)
}

type valueKey struct{}

// value is a Backend with an Equal method for attributes.Equal, which would
// otherwise compare pointers.
type value Backend

func (v *value) Equal(o any) bool {
	other, ok := o.(*value)
	return ok && (*Backend)(v).Equal((*Backend)(other))
}

// MaxRingWeight bounds the weight of an endpoint in ring-hash, which sums the
// weights of all endpoints in 32 bits: the sum of fewer than 65,536 weights
// does not overflow. For more weights, see GRPC.
const MaxRingWeight = 1 << 16

// GRPC returns b in gRPC's form, which is made once. Its attributes make
// ring-hash use the weight of b, and place b by instance id, so that an
// instance keeps its keys when its address changes. Attributes that equal
// ring-hash's defaults are left out.
func (b *Backend) GRPC() resolver.Endpoint {
	if ep := b.grpc.Load(); ep != nil {
		return *ep
	}

	e := &b.Endpoint
	ep := resolver.Endpoint{
		Addresses:  []resolver.Address{{Addr: e.Addr}},
		Attributes: attributes.New(valueKey{}, (*value)(b)),
	}
	if e.Instance != e.Addr {
		ep = ringhash.SetHashKey(ep, e.Instance)
	}

	if e.Weight > 1 {
		ep = weight.Set(ep, weight.EndpointInfo{Weight: min(e.Weight, MaxRingWeight)})
	}

	b.grpc.CompareAndSwap(nil, &ep) // concurrent calls return the same form

	return *b.grpc.Load()
}

// GRPC returns backends in gRPC's form. If there are 65,536 or more, it scales
// their weights for ring-hash down, to at least 1: if the sum of the weights
// overflows 32 bits, ring-hash makes an endless ring.
func GRPC(backends []*Backend) []resolver.Endpoint {
	endpoints := make([]resolver.Endpoint, len(backends))
	shift := max(0, bits.Len(uint(len(backends)))-16)
	for i, b := range backends {
		endpoints[i] = b.GRPC()
		if shift > 0 {
			endpoints[i] = weight.Set(endpoints[i], weight.EndpointInfo{
				Weight: max(1, weight.FromEndpoint(endpoints[i]).Weight>>shift),
			})
		}
	}

	return endpoints
}

// Of returns the backend of an endpoint that a policy was given. If another
// resolver or a parent policy has made the address, Of returns a new backend
// whose gRPC form is ep, so that connections use that address. An endpoint that
// does not come from etcd has its address as instance id.
func Of(ep resolver.Endpoint) *Backend {
	v, ok := ep.Attributes.Value(valueKey{}).(*value)
	b := (*Backend)(v)
	given := new(Backend)

	switch {
	case ok && len(ep.Addresses) == 1 && &ep.Addresses[0] == &b.GRPC().Addresses[0]:
		return b
	case ok:
		given = New(b.Endpoint, b.Layout)

	case len(ep.Addresses) > 0:
		addr := ep.Addresses[0].Addr
		given.Endpoint = endpoint.Endpoint{
			Instance: addr,
			Addr:     addr,
			Weight:   weight.FromEndpoint(ep).Weight,
		}
	}

	given.grpc.Store(&ep)

	return given
}

// Lists returns a resolver state with the backends as Endpoints and also as
// Addresses: some policies do not read Endpoints, such as those on gRPC's
// balancer/base.
func Lists(backends []*Backend) resolver.State {
	s := resolver.State{
		Endpoints: GRPC(backends),
		Addresses: make([]resolver.Address, len(backends)),
	}
	for i, ep := range s.Endpoints {
		//nolint:staticcheck // policies on balancer/base read BalancerAttributes
		s.Addresses[i] = resolver.Address{
			Addr:               ep.Addresses[0].Addr,
			BalancerAttributes: ep.Attributes,
		}
	}

	return s
}

// except returns the backends whose addresses are not among others.
func except(backends, others []*Backend) []*Backend {
	// addresses of backends; true if others has the address, too
	both := make(map[string]bool, len(backends))
	for _, b := range backends {
		both[b.Endpoint.Addr] = false
	}

	for _, b := range others {
		if _, known := both[b.Endpoint.Addr]; known {
			both[b.Endpoint.Addr] = true
		}
	}

	return slices.DeleteFunc(slices.Clone(backends), func(b *Backend) bool {
		return both[b.Endpoint.Addr]
	})
}

type stateKey struct{}

// KeyState is the part of a key's state that discovery and the policies share.
// It is immutable.
type KeyState struct {
	Sequence uint64 // grows with each change that matters to a call
	Known    bool   // the endpoints are known

	// Endpoints are the endpoints that calls may use, with held ones, sorted by
	// instance. Endpoints is empty while calls wait for etcd to replace the
	// last known endpoints. It is shared and must not be written to.
	Endpoints []*Backend

	// the addresses of Endpoints that etcd no longer has; may be nil
	Held map[string]struct{}

	// Departed are the last endpoints of the key, if their owners have just
	// withdrawn them and the key has no others.
	Departed []*Backend
}

// State is the part of a resolver's state that gRPC has no fields for. It is
// immutable.
type State struct {
	KeyState
	Client *Client
	Name   string // the key with the namespace, for error texts

	// the service config's healthCheckConfig, which gRPC passes to no policy
	Health string

	Route Route // for the methods in Client.Routed

	// tells callers why the key has no endpoints; nil if the key has some, or
	// if they are unknown
	Err error

	// the resolver's state has Endpoints, too, for outlier detection above the
	// policy
	InState bool

	// Away is the state of the key in the fallback cluster. It is nil without a
	// fallback, and until the primary's etcd has answered or failed.
	Away *State
}

// Pending reports whether the endpoints of either cluster are unknown, or are
// about to be replaced by those in etcd. Calls that the known endpoints cannot
// serve then wait.
func (s *State) Pending() bool {
	return !s.Known && s.Err == nil || s.Away != nil && s.Away.Pending()
}

// Input returns the input of a plan for a connection. Its endpoints are shared
// and must not be written to. If both clusters have an address, the input has
// only the primary's endpoint.
func (s *State) Input(
	config *planner.Config,
	client *planner.Client,
) planner.Input[*Backend] {
	in := planner.Input[*Backend]{
		Service:   s.Name,
		Config:    config,
		Client:    client,
		Endpoints: s.primary(),
		Held:      s.Held,
		Err:       s.Err,
		Of:        func(b **Backend) *endpoint.Endpoint { return &(*b).Endpoint },
	}
	if s.Away != nil {
		in.Away = except(s.Away.Endpoints, s.Endpoints)
	}

	return in
}

// All returns the endpoints of both clusters that calls may go to.
func (s *State) All() []*Backend {
	if s.Away == nil || len(s.Away.Endpoints) == 0 {
		return s.primary()
	}

	return slices.Concat(s.Endpoints, s.Away.Endpoints)
}

// primary returns the endpoints of the primary cluster that calls may go to. If
// neither cluster has any, primary returns the departed endpoints: their
// servers still take calls during the drain delay, or are soon back.
func (s *State) primary() []*Backend {
	if len(s.Endpoints) == 0 && (s.Away == nil || len(s.Away.Endpoints) == 0) {
		return s.Departed
	}

	return s.Endpoints
}

// String describes the state in gRPC's logs and channelz. The text is short,
// because gRPC calls String at each update.
func (s *State) String() string {
	if s.Pending() {
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
	planner.Client

	// each call names its instance, so the policy connects only to named
	// instances
	TargetsOnly bool

	// the full names of the methods whose calls follow State.Route; may be nil
	Routed map[string]bool

	// statistics of addresses in both clusters, kept while gRPC is idle; nil:
	// each policy has its own
	Stats *picking.Memory

	// called with each problem of the service config; may be nil
	Report func(problem string)

	// called with true when calls go to the fallback, and false when none do;
	// may be nil
	OnFailover func(bool)
}

// ReportNew calls Report with each problem that is not in before.
func (c *Client) ReportNew(problems, before []string) {
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

// StateOf returns the State that SetState added, or nil if SetState was not
// called.
func StateOf(state resolver.State) *State {
	s, _ := state.Attributes.Value(stateKey{}).(*State)
	return s
}
