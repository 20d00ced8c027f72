package discovery

import "github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"

// Backend is an endpoint of a service.
type Backend = attr.Backend

const (
	// backendSize is roughly the memory of a backend in bytes, with its elements in the slices of its key, without its strings.
	backendSize = 600
	// metadataSize is roughly the memory of a piece of metadata in bytes, without its strings.
	metadataSize = 64
)

// sizeOf returns roughly how many bytes of memory b takes.
func sizeOf(b *Backend) int {
	e := &b.Endpoint
	n := backendSize + len(e.Instance) + len(e.Addr) + len(e.Version) + len(e.Zone)
	for name, value := range e.Metadata {
		n += metadataSize + len(name) + len(value)
	}
	return n
}
