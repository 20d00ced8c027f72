package balancer

import (
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
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
	left      []resolver.Endpoint // connected, and no longer under the key
	pending   bool                // see attr.State
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

// nothing returns what there is instead if there is nothing to plan, else nil.
func (in *input) nothing() *instead {
	switch {
	case in.client.TargetsOnly:
		return &instead{connectivity.Ready, errTargetsOnly}
	case len(in.endpoints) > 0:
		return nil
	case in.pending:
		return &instead{connectivity.Connecting, balancer.ErrNoSubConnAvailable}
	case in.err != nil:
		return &instead{connectivity.TransientFailure, in.err}
	default:
		return &instead{connectivity.TransientFailure, fmt.Errorf("etcd: no endpoint of %q is known", in.service)}
	}
}

// instead is what there is where there is nothing to call.
type instead struct {
	state connectivity.State
	err   error
}

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
