package mapping

import (
	"fmt"
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

	Clusters []string // that routes name
}

// Equal reports whether two resources have the same name and content. Either may be nil.
func (r *Resource) Equal(o *Resource) bool {
	return r == o || r != nil && o != nil && r.Name == o.Name && r.Hash == o.Hash
}

// newResource encodes a resource deterministically: its hash is the same in every process.
func newResource(name string, m proto.Message) (*Resource, error) {
	body, err := encode(m)
	if err != nil {
		err = fmt.Errorf("encode %T %q: %w", m, name, err)
	}
	return &Resource{Name: name, Body: body, Hash: xxhash.Sum64(body.GetValue())}, err
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

// ads returns the config source "on the same stream".
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3,
	}
}

// listener returns the listener of the host, which does not depend on etcd.
func (m *mapping) listener() *Resource {
	router := m.encode(&routerv3.Router{})
	manager := m.encode(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: m.Authority}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router},
		}},
	})
	return m.resource(m.Authority, &listenerv3.Listener{Name: m.Authority, ApiListener: &listenerv3.ApiListener{ApiListener: manager}})
}

func (m *mapping) encode(message proto.Message) *anypb.Any {
	body, err := encode(message)
	m.fail(err)
	return body
}
