package discovery

import (
	"strings"
	"sync"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// Backend is an endpoint of a service with its form for gRPC, which all connections share. It is immutable.
type Backend struct {
	Endpoint endpoint.Endpoint
	Layout   endpoint.Layout // of its entry in etcd

	leaving bool // its owner is withdrawing it
	grpc    resolver.Endpoint
	storage attr.Storage // grpc points into it
}

// newBackend returns the backend for an endpoint read from etcd.
func newBackend(e endpoint.Endpoint, layout endpoint.Layout) *Backend {
	b := &Backend{Endpoint: e, Layout: layout, leaving: e.Leaving()}
	b.grpc = attr.New(&b.Endpoint, &b.storage)
	return b
}

const (
	// backendSize is roughly the memory of a backend without its strings: the struct, and its share of the lists of a key.
	backendSize = 600
	// metadataSize is roughly the memory of a piece of metadata without its strings.
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

// Equal reports whether b and o are equal entries.
func (b *Backend) Equal(o *Backend) bool {
	return b == o || b.Layout == o.Layout && b.Endpoint.Equal(o.Endpoint)
}

// compare orders a set: by instance, then address.
func compare(a, b *Backend) int {
	if a.Endpoint.Instance != b.Endpoint.Instance {
		return strings.Compare(a.Endpoint.Instance, b.Endpoint.Instance)
	}
	return strings.Compare(a.Endpoint.Addr, b.Endpoint.Addr)
}

// endpointsOf returns a set in gRPC's form.
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

// addressesOf returns a function that makes a set's addresses once and shares them.
func addressesOf(set []resolver.Endpoint) func() []resolver.Address {
	return sync.OnceValue(func() []resolver.Address { return attr.Addresses(set) })
}
