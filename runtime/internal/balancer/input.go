package balancer

import (
	"maps"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// input is the input of a plan, and the endpoints that calls may name.
type input struct {
	service   string // the key, for error texts
	config    *config
	client    *attr.Client
	endpoints []resolver.Endpoint
	held      map[string]struct{} // addresses of endpoints that etcd no longer has
	away      []resolver.Endpoint // of the cluster to fall back on, without addresses that endpoints have
	fallsBack bool                // there is such a cluster, and its registry is open
	left      []resolver.Endpoint // connected, and no longer under the key
	pending   bool                // endpoints or away are not known yet: see attr.State
	err       error               // why the key has none
	health    string              // the healthCheckConfig; "": none

	all      []resolver.Endpoint // that calls may name, sorted by instance
	sequence uint64              // of the key's state
}

// forPlan returns the input of a plan of package plan.
func (in *input) forPlan() *planning.Input[resolver.Endpoint] {
	next := &planning.Input[resolver.Endpoint]{
		Service: in.service, Config: &in.config.Config, Endpoints: in.endpoints, Away: in.away, Left: in.left, Of: endpointOf, Err: in.err,
		Client: &planning.Client{
			Zone: in.client.Zone, Selector: in.client.Selector, Subset: in.client.Subset, Most: in.client.Most, Seed: in.client.Seed,
		},
	}
	if len(in.held) > 0 {
		next.IsHeld = func(addr string) bool { _, held := in.held[addr]; return held }
	}
	return next
}

// Select returns the endpoints that a connection's selector and subset leave. If some of the subset are held, live
// endpoints are added. Without a selector and a subset, it returns s.Endpoints itself.
func Select(client *attr.Client, s *attr.State) []resolver.Endpoint {
	of := *client
	of.Most = 0
	in := &input{client: &of, config: new(config), endpoints: s.Endpoints, held: s.Held}
	return planning.Make(in.forPlan()).Choose()
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

// errTargetsOnly refuses a call without a target on the connection of an Instances.
var errTargetsOnly = status.Error(codes.Unavailable,
	"etcd: a call to each endpoint must be made with the context that it was given, which names the endpoint")
