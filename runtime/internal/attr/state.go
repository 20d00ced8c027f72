package attr

import (
	"slices"
	"strconv"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

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
