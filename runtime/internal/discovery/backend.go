package discovery

import (
	"cmp"

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
}

// NewBackend returns the backend for an endpoint read from etcd.
func NewBackend(e endpoint.Endpoint, layout *endpoint.Layout) *Backend {
	b := &Backend{Endpoint: e, Layout: layout}
	b.grpc = attr.New(&b.Endpoint)
	return b
}

// Equal tells whether b and o say the same.
func (b *Backend) Equal(o *Backend) bool {
	return b == o || b.Layout == o.Layout && b.Endpoint.Equal(o.Endpoint)
}

// resolverEndpoints is how gRPC takes a set of backends.
func resolverEndpoints(backends []*Backend) []resolver.Endpoint {
	endpoints := make([]resolver.Endpoint, len(backends))
	for i, b := range backends {
		endpoints[i] = b.grpc
	}
	return endpoints
}

// compareBackends is the order of a set.
func compareBackends(a, b *Backend) int {
	return cmp.Or(cmp.Compare(a.Endpoint.Instance, b.Endpoint.Instance), cmp.Compare(a.Endpoint.Addr, b.Endpoint.Addr))
}
