package balancer

import (
	"hash/maphash"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// input is the input of a plan, and the state that it comes from. It is immutable once a plan has it.
type input struct {
	planning.Input[*attr.Backend]
	config *config
	state  *attr.State // calls may name any of its endpoints
	route  metadata.MD // the request metadata of the calls of state.Client.Routed
}

func newInput(s *attr.State, c *config) *input {
	in := &input{Input: s.Input(&c.Config, &s.Client.Client), config: c, state: s}
	if s.Route.Header != "" {
		in.route = metadata.Pairs(s.Route.Header, s.Route.Value, calloptions.PickedHeader, "")
	}
	return in
}

// bareClient describes connections that were not made by NewClient. All of them use the same subset.
var bareClient = &attr.Client{Client: planning.Client{Seed: maphash.MakeSeed()}}

// inputFrom returns the input in a resolver's state. target stands for the key if the state has none.
func inputFrom(s resolver.State, c *config, target string) *input {
	state := attr.StateOf(s)
	if state == nil {
		state = &attr.State{Key: attr.Key{Known: true, Endpoints: distinct(s.Endpoints)}, Client: bareClient, Name: target}
	}
	in := newInput(state, c)
	if state.InState && !slices.EqualFunc(s.Endpoints, state.All(), func(ep resolver.Endpoint, b *attr.Backend) bool { return attr.Of(ep) == b }) {
		in.Endpoints = attr.Except(distinct(s.Endpoints), in.Away) // a parent policy has chosen these
	}
	return in
}

// distinct returns the backends of endpoints, sorted, without those that have no address or an earlier endpoint's address.
func distinct(endpoints []resolver.Endpoint) []*attr.Backend {
	seen := make(map[string]bool, len(endpoints))
	rest := make([]*attr.Backend, 0, len(endpoints))
	for _, ep := range endpoints {
		if b := attr.Of(ep); address(b) != "" && !seen[address(b)] {
			seen[address(b)] = true
			rest = append(rest, b)
		}
	}
	slices.SortFunc(rest, attr.Compare)
	return rest
}

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: the call names no instance: make it on the Conn of an Instance, with the context that Each passes")

// weightOf returns the weight in an endpoint's entry, at least 1.
func weightOf(b *attr.Backend) uint64 { return uint64(max(1, b.Endpoint.Weight)) }

func address(b *attr.Backend) string { return b.Endpoint.Addr }

func instance(b *attr.Backend) string { return b.Endpoint.Instance }

// commonLengths returns the lengths of the common prefix and suffix of two lists. It does not read entries.
func commonLengths(a, b []*attr.Backend) (prefix, suffix int) {
	n := min(len(a), len(b))
	for prefix < n && a[prefix] == b[prefix] {
		prefix++
	}
	for suffix < n-prefix && a[len(a)-1-suffix] == b[len(b)-1-suffix] {
		suffix++
	}
	return prefix, suffix
}

// hasRestarted reports whether a server has restarted between two reads of its endpoint. previous may be nil.
func hasRestarted(previous, next *attr.Backend) bool {
	started := next.Endpoint.Metadata[endpoint.StartedName]
	return previous != nil && started != "" && previous.Endpoint.Metadata[endpoint.StartedName] != started
}
