package mapping

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/cespare/xxhash/v2"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Resource is an xDS resource, encoded.
type Resource struct {
	Name string
	Body *anypb.Any
	Hash uint64 // of Body

	// Clusters are those that a route names, or that a cluster with none of its own endpoints is made of.
	Clusters []string
	shared   map[string]bool // of routes: those whose calls may go to others while a client does not know them
}

// Equal reports whether two resources, either of which may be nil, say the same.
func (r *Resource) Equal(o *Resource) bool {
	return r == o || r != nil && o != nil && r.Name == o.Name && r.Hash == o.Hash
}

// newResource encodes a resource, deterministically, so that it has the same hash in another process.
func newResource(name string, m proto.Message) (*Resource, error) {
	body, err := encode(m)
	if err != nil {
		return nil, fmt.Errorf("encode %T %q: %w", m, name, err)
	}
	return &Resource{Name: name, Body: body, Hash: xxhash.Sum64(body.GetValue())}, nil
}

func encode(m proto.Message) (*anypb.Any, error) {
	body := new(anypb.Any)
	return body, anypb.MarshalFrom(body, m, proto.MarshalOptions{Deterministic: true})
}

// AuthorityOf returns the authority that the name of a resource begins with.
func AuthorityOf(name string) string {
	authority, _, _ := strings.Cut(name, "/")
	return authority
}

// escape makes a text a part of the name of a resource.
func escape(text string) string { return url.QueryEscape(text) }

// ads says that a resource comes on the stream that its name came on.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3,
	}
}

// listener names the routes of a host. It is the same whatever etcd has.
func listener(authority string) (*Resource, error) {
	router, err := encode(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	manager, err := encode(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: authority}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
	})
	if err != nil {
		return nil, err
	}
	return newResource(authority, &listenerv3.Listener{Name: authority, ApiListener: &listenerv3.ApiListener{ApiListener: manager}})
}

// resource encodes a resource. If that fails, Map does.
func (m *mapping) resource(name string, message proto.Message) *Resource {
	r, err := newResource(name, message)
	if err != nil {
		m.fail(err)
		return new(Resource) // no part of a snapshot
	}
	return r
}

func (m *mapping) encode(message proto.Message) *anypb.Any {
	body, err := encode(message)
	m.fail(err)
	return body
}

// fail keeps the first error.
func (m *mapping) fail(err error) { m.err = cmp.Or(m.err, err) }
