package balancer

import (
	"cmp"
	"hash/maphash"
	"iter"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// input is the input of a plan, and what else the resolver's state says about the key. It is immutable once a plan has it.
type input struct {
	planning.Input[resolver.Endpoint]
	config    *config
	client    *attr.Client
	fallsBack bool   // a fallback exists, and its registry is open
	pending   bool   // Endpoints or Away are not known yet: see attr.State
	parent    bool   // a parent policy, such as outlier detection, has seen the endpoints
	health    string // the healthCheckConfig, or ""

	route    attr.Route          // of the calls of client.Routed
	metadata metadata.MD         // the request metadata of these calls
	all      []resolver.Endpoint // the endpoints that calls may name, sorted by instance
	sequence uint64              // the sequence number of the key's state
}

// newInput returns an input with the endpoints of a state.
func newInput(state *attr.State, c *config, client *attr.Client) *input {
	return &input{Input: state.Input(&c.Config, &client.Client), config: c, client: client}
}

// bareClient describes connections that were not made by NewClient. All of them use the same subset.
var bareClient = &attr.Client{Client: planning.Client{Seed: maphash.MakeSeed()}}

// inputFrom returns the input in a resolver's state. target stands for the key if the state has none.
func inputFrom(s resolver.State, c *config, target string) *input {
	state := attr.StateOf(s)
	if state == nil {
		state = &attr.State{Endpoints: distinct(s.Endpoints)}
	}
	client := state.Client
	if client == nil {
		client = bareClient
	}
	in := newInput(state, c, client)
	in.Service = cmp.Or(state.Key, target)
	in.pending, in.health, in.all, in.sequence, in.parent, in.route = state.Pending, state.Health, state.Endpoints, state.Sequence, state.InState, state.Route
	in.metadata = metadata.Pairs(in.route.Header, in.route.Value, calloptions.PickedHeader, "")
	if state.Away != nil {
		in.fallsBack, in.pending = true, in.pending || state.Away.Pending
	}
	if in.parent {
		given := s.Endpoints
		if in.fallsBack {
			given = attr.Except(given, in.Away)
		}
		if prefix, suffix := commonLengths(given, state.Endpoints); prefix+suffix < max(len(given), len(state.Endpoints)) {
			in.Endpoints = distinct(given) // a parent policy has chosen these; calls may name any instance of in.all
		}
	}
	return in
}

// distinct returns endpoints, sorted by instance and then by address, without those that have no address or an earlier
// endpoint's address. An endpoint that does not come from etcd gets its address as instance id.
func distinct(endpoints []resolver.Endpoint) []resolver.Endpoint {
	seen := make(map[string]bool, len(endpoints))
	rest := make([]resolver.Endpoint, 0, len(endpoints))
	for _, ep := range endpoints {
		if addr := address(&ep); addr != "" && !seen[addr] {
			seen[addr] = true
			rest = append(rest, attr.Known(ep))
		}
	}
	slices.SortFunc(rest, func(a, b resolver.Endpoint) int {
		return cmp.Or(strings.Compare(instance(&a), instance(&b)), strings.Compare(address(&a), address(&b)))
	})
	return rest
}

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: the call names no instance: make it on the Conn of an Instance, with the context that Each passes")

// weightOf returns the weight in an endpoint's entry, at least 1.
func weightOf(ep *resolver.Endpoint) uint64 {
	return uint64(max(1, endpointOf(ep).Weight))
}

// endpointOf returns the entry behind an endpoint.
func endpointOf(ep *resolver.Endpoint) *endpoint.Endpoint { return attr.Endpoint(*ep) }

// address returns the address of an endpoint, or "".
func address(ep *resolver.Endpoint) string { return attr.Address(ep) }

// addresses yields the addresses of endpoints.
func addresses(lists ...[]resolver.Endpoint) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, endpoints := range lists {
			for i := range endpoints {
				if !yield(address(&endpoints[i])) {
					return
				}
			}
		}
	}
}

// instance returns the instance id of an endpoint.
func instance(ep *resolver.Endpoint) string { return endpointOf(ep).Instance }

// commonLengths returns the lengths of the common prefix and suffix of two lists. It compares only the pointers in endpoints,
// so that it need not read entries.
func commonLengths(a, b []resolver.Endpoint) (prefix, suffix int) {
	n := min(len(a), len(b))
	for prefix < n && identical(&a[prefix], &b[prefix]) {
		prefix++
	}
	for suffix < n-prefix && identical(&a[len(a)-1-suffix], &b[len(b)-1-suffix]) {
		suffix++
	}
	return prefix, suffix
}

func identical(a, b *resolver.Endpoint) bool {
	return a.Attributes == b.Attributes && len(a.Addresses) == len(b.Addresses) &&
		(len(a.Addresses) == 0 || &a.Addresses[0] == &b.Addresses[0])
}

// hasRestarted reports whether a server has restarted between two reads of its endpoint.
func hasRestarted(previous, next resolver.Endpoint) bool {
	a, b := attr.Endpoint(previous), attr.Endpoint(next)
	return a != nil && b != nil && b.Metadata[endpoint.StartedName] != "" && a.Metadata[endpoint.StartedName] != b.Metadata[endpoint.StartedName]
}
