package discovery

import (
	"math"
	"slices"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// formed is the state of a set that comes after another.
func formed(old *State, names string) *State {
	s := &State{Known: true, Backends: set(names)}
	s.form(old)
	return s
}

func TestForms(t *testing.T) {
	for _, tt := range []struct{ old, next string }{
		{"", ""}, {"", "ab"}, {"ab", ""}, {"abc", "abc"}, {"abc", "ac"}, {"abc", "bc"}, {"abc", "ab"},
		{"abc", "abcd"}, {"bcd", "abcd"}, {"abd", "abcd"}, {"abcd", "axcd"}, {"abcd", "axyd"}, {"aab", "ab"}, {"ab", "aab"},
	} {
		for _, made := range []bool{false, true} {
			old := formed(&State{}, tt.old)
			if made {
				old.addresses.get()
			}
			next := formed(old, tt.next)
			for i, b := range next.Backends {
				if !sameEndpoint(next.Endpoints[i], b.grpc) {
					t.Errorf("endpoint %d of %q after %q is not what it is alone", i, tt.next, tt.old)
				}
			}
			addrs := next.addresses.get()
			if !slices.EqualFunc(addrs, next.Backends, func(a resolver.Address, b *Backend) bool { return a == attr.Address(b.grpc) }) {
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
	if n := testing.AllocsPerRun(100, func() { b = newBackend(e, endpoint.EndpointJSON) }); n > 1 {
		t.Errorf("a backend takes %v allocations, want 1", n)
	}
	old := &State{Backends: slices.Repeat([]*Backend{b}, 100)}
	old.form(&State{})
	next := &State{Backends: old.Backends[1:]}
	if n := testing.AllocsPerRun(100, func() { next.form(old) }); n > 2 {
		t.Errorf("the forms of a set take %v allocations, want 2: the endpoints and what will be the addresses", n)
	}
}

func TestS2_WeightsFitARing(t *testing.T) {
	for _, tt := range []struct {
		endpoints int
		weight    uint32
	}{
		{3, 5},
		{65536, 65536},
		{70000, math.MaxUint32},
	} {
		backends := make([]*Backend, tt.endpoints)
		b := newBackend(endpoint.Endpoint{Instance: "a", Addr: "a:1", Weight: tt.weight}, endpoint.EndpointJSON)
		for i := range backends {
			backends[i] = b
		}
		s := &State{Backends: backends}
		s.form(&State{})
		sum := uint64(0)
		for _, ep := range s.Endpoints {
			w := weight.FromEndpoint(ep).Weight
			if w == 0 && tt.weight > 1 {
				t.Fatalf("%d endpoints of weight %d: one has none", tt.endpoints, tt.weight)
			}
			sum += uint64(w)
		}
		if sum > math.MaxUint32 {
			t.Errorf("%d endpoints of weight %d: gRPC adds them up to %d, which 32 bits do not hold", tt.endpoints, tt.weight, sum)
		}
		if tt.endpoints == 3 && sum != 15 {
			t.Errorf("weights that fit were changed: their sum is %d", sum)
		}
	}
}
