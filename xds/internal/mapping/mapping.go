// Package mapping says in xDS what the clients of a service go by. It does no I/O, and equal arguments have equal results.
//
//	mapping.go   the passes from what etcd has to resources, in the order of the runtime's clients
//	policy.go    ... the service config
//	members.go   ... which endpoints a call may go to
//	route.go     ... where the calls of each method and lane go: a RouteConfiguration
//	fit.go       ... of which a client is given no more than it can receive
//	cluster.go   ... how endpoints are picked: Clusters
//	load.go      ... the endpoints of a cluster: a ClusterLoadAssignment
//	lost.go      what xDS cannot say
//	resource.go  the resources
//
// What gRPC makes of xDS is said in https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md. A client gives up a
// whole resource for one part that it does not take, so nothing is sent that some implementation refuses.
package mapping

import (
	"maps"
	"slices"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Host is the services that clients dial by one name, which share the endpoints of a key.
type Host struct {
	Authority string // without a slash
	Services  []Service
	Endpoints []endpoint.Endpoint // sorted by instance
	Held      map[string]struct{} // addresses of those that etcd no longer has
	Leader    string              // the instance that leads, "" for none
}

// Service is a service of a host.
type Service struct {
	Name    string // its full name, "" for whatever is called
	Policy  *Policy
	Leading []string // the methods whose calls go to the leader, "/package.Service/Method"
}

// Client is what resources depend on beside the host.
type Client struct {
	Zone string // "": unknown
	ID   string // counts where each client uses a subset of its own
	// NoRing says that the client cannot be sent a ring: gRPC's C core crashes by one in versions such as 1.51.
	NoRing bool
}

// Snapshot is the resources of a host for some clients. It is immutable.
type Snapshot struct {
	Listener, Route *Resource
	Clusters, Loads map[string]*Resource // by name; each cluster with endpoints has its load of the same name
	Lost            []string             // what xDS cannot say, for people
	Usual           string               // the cluster that calls go to of which nothing is said
}

// Client returns c without what makes no difference to its resources.
func (h *Host) Client(c Client) Client {
	any := func(has func(p *Policy) bool) bool {
		return slices.ContainsFunc(h.Services, func(s Service) bool { return has(s.Policy) })
	}
	if !any(func(p *Policy) bool { return p.etcd.PreferZone }) {
		c.Zone = ""
	}
	if !any(func(p *Policy) bool { return p.etcd.Subset > 0 }) {
		c.ID = ""
	}
	if !any(func(p *Policy) bool { return p.ringHash() != nil }) {
		c.NoRing = false
	}
	return c
}

// Map makes the resources of a host for a client.
func Map(h *Host, c Client) (*Snapshot, error) {
	m := newMapping(h, c)
	s := &Snapshot{Clusters: m.clusters, Loads: m.loads}
	var err error
	if s.Listener, err = listener(h.Authority); err != nil {
		return nil, err
	}
	if s.Route, s.Usual, err = m.routes(); err != nil {
		return nil, err
	}
	if m.err != nil {
		return nil, m.err
	}
	s.Lost = slices.Sorted(maps.Keys(m.lost))
	return s, nil
}

// mapping is resources in the making.
type mapping struct {
	*Host
	client          Client
	located         []*located // by endpoint; nil: it cannot be said where it is
	services        []*plan
	clusters, loads map[string]*Resource
	names           []string        // of clusters, as they were made
	bytes           int             // of clusters
	sharing         map[string]bool // clusters, see [Resource]
	lost            map[string]bool
	known           map[string]map[path]bool // by texts: the methods that each names, and their services
	allowed         int                      // how many bytes of texts may still be added to that
	err             error                    // the first of making a resource
}

func newMapping(h *Host, c Client) *mapping {
	m := &mapping{
		Host: h, client: c, clusters: make(map[string]*Resource), loads: make(map[string]*Resource),
		sharing: make(map[string]bool), lost: make(map[string]bool), known: make(map[string]map[path]bool), allowed: maxNamed,
	}
	m.locate()
	for i := range h.Services {
		m.services = append(m.services, m.plan(&h.Services[i], len(h.Services) > 1))
	}
	return m
}

// plan is what calls of one service may go to.
type plan struct {
	*mapping
	service *Service
	policy  *Policy
	ring    *serviceconfig.RingHash // by which endpoints are picked; nil: they are picked otherwise
	prefix  string                  // of the names of its clusters
	drained []bool                  // by endpoint
	placed  *planning.Placement
	base    lane // the endpoints that calls without a lane may go to
	lanes   []lane
	closed  bool                     // calls of a lane that is none of lanes fail: a strict label says so
	named   map[string]map[path]bool // what the texts of base and lanes name
	to      map[[2]*set][]share      // see [plan.destination]
}

// lane is the endpoints of a lane.
type lane struct {
	name    string // "": the base
	members []int
	strict  bool
	texts   []string        // in which they name the methods that they serve, see [plan.tellApart]
	of      []int           // the text of each member; -1: of none
	sets    map[uint32]*set // of members by texts: all of them, and those that are told apart
}

// plan goes through the passes that come before a call is known: where endpoints are drained, and which lane each is in.
func (m *mapping) plan(s *Service, several bool) *plan {
	p := &plan{mapping: m, service: s, policy: s.Policy, prefix: m.Authority, named: make(map[string]map[path]bool), to: make(map[[2]*set][]share)}
	if several {
		p.prefix += "/service=" + escape(s.Name)
	}
	if p.ring = s.Policy.ringHash(); p.ring != nil && m.client.NoRing {
		p.ring = nil
		p.lose("ring_hash_experimental: clients with gRPC's C core up to 1.51 go round robin, for they crash by it")
	}
	p.noteLost()
	all := make([]*endpoint.Endpoint, len(p.Endpoints))
	for i := range all {
		all[i] = &p.Endpoints[i]
	}
	p.placed = p.policy.etcd.Place(all)
	p.drain(all)
	p.divideByLane()
	p.tellApart(&p.base)
	for i := range p.lanes {
		p.tellApart(&p.lanes[i])
	}
	return p
}
