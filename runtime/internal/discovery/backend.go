package discovery

import (
	"strings"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Backend is an endpoint of a service, in our form and in gRPC's. All connections share it. It is immutable.
type Backend struct {
	Endpoint endpoint.Endpoint
	Layout   endpoint.Layout // the layout of the endpoint's entry in etcd

	leaving bool // the entry has the mark of leaving
	grpc    resolver.Endpoint
	storage attr.Storage // grpc has pointers into storage
}

// newBackend returns the backend for an endpoint read from etcd.
func newBackend(e endpoint.Endpoint, layout endpoint.Layout) *Backend {
	b := &Backend{Endpoint: e, Layout: layout, leaving: e.Leaving()}
	b.grpc = attr.New(&b.Endpoint, &b.storage)
	return b
}

const (
	// backendSize is roughly the memory of a backend in bytes, with its elements in the slices of its key, without its strings.
	backendSize = 600
	// metadataSize is roughly the memory of a piece of metadata in bytes, without its strings.
	metadataSize = 64
)

// size returns roughly how many bytes of memory b takes.
func (b *Backend) size() int {
	e := &b.Endpoint
	n := backendSize + len(e.Instance) + len(e.Addr) + len(e.Version) + len(e.Zone)
	for name, value := range e.Metadata {
		n += metadataSize + len(name) + len(value)
	}
	return n
}

// Equal reports whether b and o have equal endpoints and the same layout.
func (b *Backend) Equal(o *Backend) bool {
	return b == o || b.Layout == o.Layout && b.Endpoint.Equal(o.Endpoint)
}

// compare orders backends by instance, then by address.
func compare(a, b *Backend) int {
	if a.Endpoint.Instance != b.Endpoint.Instance {
		return strings.Compare(a.Endpoint.Instance, b.Endpoint.Instance)
	}
	return strings.Compare(a.Endpoint.Addr, b.Endpoint.Addr)
}

// endpointsOf returns the endpoints of set in gRPC's form. If set is large, their weights are scaled down.
func endpointsOf(set []*Backend) []resolver.Endpoint {
	endpoints, shift := make([]resolver.Endpoint, len(set)), attr.RingShift(len(set))
	for i, b := range set {
		endpoints[i] = b.grpc
		if shift > 0 {
			endpoints[i] = attr.Scaled(b.grpc, shift)
		}
	}
	return endpoints
}
