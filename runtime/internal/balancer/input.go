package balancer

import (
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// input is the input of a plan, and the endpoints that calls may name.
type input struct {
	service   string // the key, for error texts
	config    *config
	client    *attr.Client
	endpoints []resolver.Endpoint
	summary   *attr.Summary       // of endpoints; nil: not known
	held      map[string]struct{} // addresses of endpoints that etcd no longer has
	away      []resolver.Endpoint // of the cluster to fall back on, without addresses that endpoints have
	fallsBack bool                // there is such a cluster, and its registry is open
	left      []resolver.Endpoint // connected, and no longer under the key
	pending   bool                // endpoints or away are not known yet: see attr.State
	err       error               // why there are no endpoints
	health    string              // the healthCheckConfig; "": none

	all      []resolver.Endpoint // that calls may name, sorted by instance
	sequence uint64              // of the key's state
}

// isHeld reports whether etcd no longer has an endpoint.
func (in *input) isHeld(ep *resolver.Endpoint) bool {
	_, held := in.held[address(ep)]
	return held
}

// subsetOf returns how many endpoints of each set are asked for: the smaller of what the connection and the config
// say, 0 if neither says anything.
func (in *input) subsetOf() int {
	of, all := max(0, in.client.Subset), int(in.config.Subset)
	if of == 0 || all == 0 {
		return max(of, all)
	}
	return min(of, all)
}

// fallBackOn adds what another cluster knows of the key; nil: nothing.
func (in *input) fallBackOn(other *attr.State) {
	if other == nil {
		return
	}
	in.fallsBack, in.pending = true, in.pending || other.Pending
	in.away = except(other.Endpoints, in.endpoints)
	if len(other.Held) > 0 {
		in.held = maps.Clone(in.held)
		if in.held == nil {
			in.held = make(map[string]struct{}, len(other.Held))
		}
		maps.Copy(in.held, other.Held)
	}
}

// except returns the endpoints that have none of the addresses of others.
func except(endpoints, others []resolver.Endpoint) []resolver.Endpoint {
	both := make(map[string]bool, len(endpoints)) // false: endpoints alone have it. The others may be many more
	for i := range endpoints {
		both[address(&endpoints[i])] = false
	}
	for i := range others {
		if _, known := both[address(&others[i])]; known {
			both[address(&others[i])] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(endpoints), func(ep resolver.Endpoint) bool { return both[address(&ep)] })
}

// lent returns the endpoints of the other cluster that the connection may call.
func (in *input) lent() []resolver.Endpoint {
	lent := selected(in.away, in.client)
	if len(in.config.drained) == 0 {
		return lent
	}
	return slices.DeleteFunc(slices.Clone(lent), func(ep resolver.Endpoint) bool { return in.config.drains(&ep, nil) })
}

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
