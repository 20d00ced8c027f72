package attr

import (
	"slices"
	"strconv"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

type stateKey struct{}

// State tells the policy about a key and the connection what gRPC's own fields do not. It is immutable.
type State struct {
	Client   *Client
	Key      string // with the namespace, for error texts
	Sequence uint64 // of the key's state: grows with each change
	Pending  bool   // the endpoints are not known yet, or those of an earlier time: calls that these cannot serve wait
	Health   string // the service config's healthCheckConfig, which gRPC tells no policy
	Leader   Leader // that the connection's LeaderMethods are for
	Err      error  // why there are no endpoints, for callers; nil if there are some or nothing is known

	// Endpoints are the endpoints of the key, held ones included, sorted by instance. They are shared and
	// must not be written to.
	Endpoints []resolver.Endpoint
	InState   bool                // they are in the resolver's state as well, from which a policy above may have taken some
	Held      map[string]struct{} // addresses of the Endpoints that etcd no longer has; nil: none

	// Away is what the cluster that the connection falls back on knows of the key. nil: nothing, or the endpoints at home
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

// String returns what gRPC's logs and channelz say of the state. It is short, for gRPC asks for it at each update.
func (s *State) String() string {
	if s.Pending {
		return "endpoints not known yet"
	}
	return strconv.Itoa(len(s.Endpoints)) + " endpoints"
}

// Leader is the instance that leads the others of a key.
type Leader struct {
	Instance string // "": nobody leads, as far as known
	Token    int64  // the create revision of its candidate
}

// Client describes the policy's connection. There is one for each connection.
type Client struct {
	plan.Client
	TargetsOnly   bool                 // calls name their instance: connect to no other
	LeaderMethods map[string]struct{}  // the full names of the methods whose calls go to the leader; nil: none
	Stats         *picking.Memory      // of the calls to each address, here and away, kept while gRPC is idle; nil: each policy has its own
	Report        func(problem string) // called with each problem of the service config; may be nil
	CallsLeave    func(bool)           // called with whether calls leave for the cluster to fall back on, when that changes; may be nil
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
