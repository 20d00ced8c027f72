package discovery

import (
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Backend is an endpoint of a service with its form for gRPC, made once for all connections. It is
// immutable.
type Backend struct {
	Endpoint endpoint.Endpoint
	Layout   *endpoint.Layout // that it was read in

	grpc resolver.Endpoint
	room attr.Room // of grpc
}

// NewBackend returns the backend for an endpoint read from etcd.
func NewBackend(e endpoint.Endpoint, layout *endpoint.Layout) *Backend {
	b := &Backend{Endpoint: e, Layout: layout}
	b.grpc = attr.New(&b.Endpoint, &b.room)
	return b
}

// Equal tells whether b and o say the same.
func (b *Backend) Equal(o *Backend) bool {
	return b == o || b.Layout == o.Layout && b.Endpoint.Equal(o.Endpoint)
}

// resolverEndpoints is how gRPC takes a set of backends.
func resolverEndpoints(backends []*Backend) []resolver.Endpoint {
	endpoints := make([]resolver.Endpoint, len(backends))
	convert(endpoints, backends)
	return endpoints
}

func convert(endpoints []resolver.Endpoint, backends []*Backend) {
	for i, b := range backends {
		endpoints[i] = b.grpc
	}
}

// nextEndpoints is resolverEndpoints of a set that has most in common with an older one, whose
// endpoints are at hand: those before and behind the changes are copied in one go each.
func nextEndpoints(backends, old []*Backend, oldEndpoints []resolver.Endpoint) []resolver.Endpoint {
	n := min(len(backends), len(old))
	before := 0
	for before < n && backends[before] == old[before] {
		before++
	}
	behind := 0
	for behind < n-before && backends[len(backends)-1-behind] == old[len(old)-1-behind] {
		behind++
	}
	endpoints := make([]resolver.Endpoint, len(backends))
	changed := len(backends) - behind
	copy(endpoints, oldEndpoints[:before])
	convert(endpoints[before:changed], backends[before:changed])
	copy(endpoints[changed:], oldEndpoints[len(old)-behind:])
	return endpoints
}

// Compare is the order of a set: by instance, then address.
func Compare(a, b *Backend) int {
	if a.Endpoint.Instance != b.Endpoint.Instance {
		return strings.Compare(a.Endpoint.Instance, b.Endpoint.Instance)
	}
	return strings.Compare(a.Endpoint.Addr, b.Endpoint.Addr)
}
