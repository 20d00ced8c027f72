package discovery

import (
	"slices"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestForms(t *testing.T) {
	for _, tt := range []struct{ old, next string }{
		{"", ""}, {"", "ab"}, {"ab", ""}, {"abc", "abc"}, {"abc", "ac"}, {"abc", "bc"}, {"abc", "ab"},
		{"abc", "abcd"}, {"bcd", "abcd"}, {"abd", "abcd"}, {"abcd", "axcd"}, {"abcd", "axyd"}, {"aab", "ab"}, {"ab", "aab"},
	} {
		old, next := set(tt.old), set(tt.next)
		got, want := formsOf(next, old, resolverEndpoints(old), (*Backend).endpoint), resolverEndpoints(next)
		if !slices.EqualFunc(got, want, sameEndpoint) {
			t.Errorf("the endpoints of %q after %q are not what they are alone", tt.next, tt.old)
		}
		var before *addresses
		for _, made := range []bool{false, true} {
			before = before.after(old, nil)
			if made {
				before.get()
			}
			addrs := before.after(next, old).get()
			if !slices.EqualFunc(addrs, next, func(a resolver.Address, b *Backend) bool { return a == b.address() }) {
				t.Errorf("the addresses of %q after %q are %v", tt.next, tt.old, addrs)
			}
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
	if n := testing.AllocsPerRun(100, func() { formsOf(old[1:], old, endpoints, (*Backend).endpoint) }); n > 1 {
		t.Errorf("a list takes %v allocations, want 1", n)
	}
}
