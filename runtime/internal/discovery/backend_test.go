package discovery

import (
	"math"
	"slices"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

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
	if n := testing.AllocsPerRun(100, func() { next.form(old) }); n > 1 {
		t.Errorf("the forms of a set take %v allocations, want 1", n)
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
