// Package mapping translates services in etcd into xDS resources. It does no
// I/O. Equal arguments give equal results.
//
//	mapping.go   the input, and the encoded resources of a host
//	policy.go    the service config, and its features that xDS lacks
//	limits.go    the values that clients of every language read
//	members.go   the endpoints of the base, of each lane and of each group of a split
//	route.go     a RouteConfiguration: the clusters for each method and lane
//	upcoming.go  routes for a client that does not know all clusters yet
//	cluster.go   Clusters: how a client picks an endpoint; ClusterLoadAssignments: the endpoints
//
// https://github.com/grpc/grpc/blob/master/doc/grpc_xds_features.md lists the
// features that gRPC supports. A client rejects a whole resource if one part is
// invalid, so the resources contain only parts that every implementation
// accepts.
package mapping

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Host has the services that clients dial by one authority. They share the
// endpoints of a key.
type Host struct {
	Authority string // without a slash
	Services  []Service
	Endpoints []endpoint.Endpoint // sorted by instance

	// addresses of endpoints that vanished from etcd and are still used
	Held map[string]struct{}

	Leader string // instance id of the leader, "" for none
}

// Service is a service of a host.
type Service struct {
	Name   string // full name; "" matches every service
	Policy *Policy

	// the methods whose calls go to the leader, "/package.Service/Method"
	Leading []string
}

// Client has the properties of a client on which its resources depend.
type Client struct {
	Zone string // "" if unknown
	ID   string // seeds the client's subset

	// NoRing means that the client must not receive ring_hash: gRPC's C core,
	// in versions such as 1.51, crashes with it.
	NoRing bool
}

// Snapshot has the resources of a host for some clients. It is immutable.
type Snapshot struct {
	Listener, Route *Resource

	// by name; Loads has the ClusterLoadAssignments, by the names of their
	// clusters
	Clusters, Loads map[string]*Resource

	// the features in use that xDS lacks, for operators; sorted
	Unsupported []string

	base string // the cluster with the greatest share of the calls without a lane
}

// Client returns c without the fields that do not affect the client's
// resources.
func (h *Host) Client(c Client) Client {
	anyPolicy := func(has func(p *Policy) bool) bool {
		return slices.ContainsFunc(h.Services, func(s Service) bool {
			return has(s.Policy)
		})
	}

	if !anyPolicy(func(p *Policy) bool { return p.etcd.PrefersZone() }) {
		c.Zone = ""
	}

	if len(h.Endpoints) <= maxConnections &&
		!anyPolicy(func(p *Policy) bool { return p.etcd.Subset > 0 }) {
		c.ID = ""
	}

	if !anyPolicy(func(p *Policy) bool { return p.ringHash() != nil }) {
		c.NoRing = false
	}

	return c
}

// A client receives at most 4 MiB in one message: all routes of a host, all
// clusters, or the endpoints of one cluster.
const (
	maxBytes = 2 << 20 // of all routes, or of all clusters

	// of a host: a client compares a call with one route after another
	maxRoutes = 5000

	// lanes with routes of their own; no host has more: see
	// [serviceconfig.Etcd] and package planner
	maxLanes = 320
)

var errTooLarge = errors.New("the service config makes more than 5,000 routes, 2 MiB of routes or 2 MiB of clusters, which clients do not receive: configure fewer methods, fewer groups of a split, or fewer strict lanes")

// Map returns the resources of a host for a client. Labels of endpoints create
// lanes, so Map omits the last lanes if there are too many. It fails if the
// resources are still too large.
func Map(h *Host, c Client) (*Snapshot, error) {
	for lanes := maxLanes; ; lanes = lanes * 3 / 4 {
		s, fewer, err := mapWith(h, c, lanes)
		if !errors.Is(err, errTooLarge) || !fewer {
			return s, err
		}
	}
}

// mapWith is Map with a limit on the number of lanes. fewer reports whether
// more lanes can be omitted.
func mapWith(h *Host, c Client, lanes int) (_ *Snapshot, fewer bool, _ error) {
	m := &mapping{
		Host:        h,
		client:      c,
		maxLanes:    lanes,
		clusters:    make(map[string]*Resource),
		loads:       make(map[string]*Resource),
		unsupported: make(map[string]bool),
	}

	m.parseAddresses()

	for i := range h.Services {
		m.byService = append(m.byService, m.targetsOf(&h.Services[i]))
	}

	s := &Snapshot{
		Listener:    m.listener(),
		Route:       m.routes(),
		Clusters:    m.clusters,
		Loads:       m.loads,
		Unsupported: slices.Sorted(maps.Keys(m.unsupported)),
	}

	if m.err == nil {
		targets := m.byService[0].targets
		s.base = targets[len(targets)-1].shares[0].cluster
	}

	return s, m.fewer, m.err
}

// mapping is a snapshot under construction.
type mapping struct {
	*Host
	client          Client
	maxLanes        int
	fewer           bool             // more lanes can be omitted
	addresses       []netip.AddrPort // by endpoint; zero for a host name
	byService       []*serviceTargets
	clusters, loads map[string]*Resource
	clusterBytes    int
	unsupported     map[string]bool
	err             error // the first error
}

// fail keeps the first error.
func (m *mapping) fail(err error) {
	m.err = cmp.Or(m.err, err)
}

// Resource is an xDS resource, encoded.
type Resource struct {
	Name string
	Body *anypb.Any
	Hash uint64 // of Body

	Clusters []string // of routes: the clusters in them, sorted
}

// Equal reports whether two resources have the same name and content. Either
// may be nil.
func (r *Resource) Equal(o *Resource) bool {
	if r == nil || o == nil {
		return r == o
	}

	return r.Name == o.Name && r.Hash == o.Hash
}

// newResource encodes a resource deterministically: its hash is the same in
// every process.
func newResource(name string, m proto.Message) (*Resource, error) {
	body, err := encode(m)
	if err != nil {
		err = fmt.Errorf("encode %T %q: %w", m, name, err)
	}

	return &Resource{Name: name, Body: body, Hash: xxhash.Sum64(body.Value)}, err
}

// resource encodes a resource of the snapshot.
func (m *mapping) resource(name string, message proto.Message) *Resource {
	r, err := newResource(name, message)
	m.fail(err)

	return r
}

func encode(m proto.Message) (*anypb.Any, error) {
	body := new(anypb.Any)
	return body, anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true})
}

// AuthorityOf returns the authority at the start of the name of a resource.
func AuthorityOf(name string) string {
	authority, _, _ := strings.Cut(name, "/")
	return authority
}

// ads returns the config source of resources on the same stream.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{
			Ads: &corev3.AggregatedConfigSource{},
		},
		ResourceApiVersion: corev3.ApiVersion_V3,
	}
}

// listener returns the listener of the host, which does not depend on etcd.
func (m *mapping) listener() *Resource {
	router := m.encode(&routerv3.Router{})
	manager := m.encode(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{
			Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: m.Authority},
		},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
	})

	return m.resource(m.Authority, &listenerv3.Listener{
		Name:        m.Authority,
		ApiListener: &listenerv3.ApiListener{ApiListener: manager},
	})
}

func (m *mapping) encode(message proto.Message) *anypb.Any {
	body, err := encode(message)
	m.fail(err)

	return body
}
