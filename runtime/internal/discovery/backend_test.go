package discovery

import (
	"slices"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestNextEndpoints(t *testing.T) {
	for _, tt := range []struct{ old, next string }{
		{"", ""}, {"", "ab"}, {"ab", ""}, {"abc", "abc"}, {"abc", "ac"}, {"abc", "bc"}, {"abc", "ab"},
		{"abc", "abcd"}, {"bcd", "abcd"}, {"abd", "abcd"}, {"abcd", "axcd"}, {"abcd", "axyd"}, {"aab", "ab"}, {"ab", "aab"},
	} {
		old, next := set(tt.old), set(tt.next)
		got, want := nextEndpoints(next, old, resolverEndpoints(old)), resolverEndpoints(next)
		if !slices.EqualFunc(got, want, sameEndpoint) {
			t.Errorf("%q after %q is not what it is alone", tt.next, tt.old)
		}
	}
}

func sameEndpoint(a, b resolver.Endpoint) bool {
	return a.Attributes == b.Attributes && &a.Addresses[0] == &b.Addresses[0]
}

// TestBackendAllocations pins what an endpoint costs in its form for gRPC, and what gRPC's list of
// them costs at a change: one piece each.
func TestBackendAllocations(t *testing.T) {
	e := endpoint.Endpoint{Instance: "10.0.0.7:9000", Addr: "10.0.0.7:9000"}
	var b *Backend
	if n := testing.AllocsPerRun(100, func() { b = NewBackend(e, endpoint.EndpointJSON) }); n > 1 {
		t.Errorf("a backend takes %v allocations, want 1", n)
	}
	old := slices.Repeat([]*Backend{b}, 100)
	endpoints := resolverEndpoints(old)
	if n := testing.AllocsPerRun(100, func() { nextEndpoints(old[1:], old, endpoints) }); n > 1 {
		t.Errorf("a list takes %v allocations, want 1", n)
	}
}
