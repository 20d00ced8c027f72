package balancer

import (
	"iter"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// weightOf returns an endpoint's static weight, at least 1.
func weightOf(ep *resolver.Endpoint) uint64 {
	return uint64(max(1, endpointOf(ep).Weight))
}

// endpointOf returns the entry behind an endpoint.
func endpointOf(ep *resolver.Endpoint) *endpoint.Endpoint { return attr.Endpoint(*ep) }

// address returns the address of an endpoint, or "".
func address(ep *resolver.Endpoint) string {
	if len(ep.Addresses) == 0 {
		return ""
	}
	return ep.Addresses[0].Addr
}

// addresses yields the addresses of endpoints.
func addresses(lists ...[]resolver.Endpoint) iter.Seq[string] {
	return func(yield func(string) bool) {
		for _, endpoints := range lists {
			for i := range endpoints {
				if !yield(address(&endpoints[i])) {
					return
				}
			}
		}
	}
}

// instance returns the instance id of an endpoint.
func instance(ep *resolver.Endpoint) string { return endpointOf(ep).Instance }

// alike returns the lengths of the common prefix and suffix of two lists, by
// identity: most of a list is compared without reading the endpoints.
func alike(a, b []resolver.Endpoint) (before, behind int) {
	n := min(len(a), len(b))
	for before < n && identical(&a[before], &b[before]) {
		before++
	}
	for behind < n-before && identical(&a[len(a)-1-behind], &b[len(b)-1-behind]) {
		behind++
	}
	return before, behind
}

func identical(a, b *resolver.Endpoint) bool {
	return a.Attributes == b.Attributes && len(a.Addresses) == len(b.Addresses) &&
		(len(a.Addresses) == 0 || &a.Addresses[0] == &b.Addresses[0])
}

// startedAnew reports whether a server has restarted between two reads of its endpoint.
func startedAnew(before, now resolver.Endpoint) bool {
	a, b := attr.Endpoint(before), attr.Endpoint(now)
	return a != nil && b != nil && b.Metadata[endpoint.StartedName] != "" && a.Metadata[endpoint.StartedName] != b.Metadata[endpoint.StartedName]
}
