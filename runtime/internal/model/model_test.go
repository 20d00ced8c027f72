package model

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// A list of methods that is too long is ignored (S7).
func TestMethods_IgnoresLongLists(t *testing.T) {
	for _, tt := range []struct{ bytes, want int }{{endpoint.MaxMethods, endpoint.MaxMethods},
		{endpoint.MaxMethods + 1, 0}} {
		b := New(endpoint.Endpoint{
			Metadata: map[string]string{endpoint.MethodsName: strings.Repeat("x", tt.bytes)},
			Addr:     "a:1",
		}, endpoint.EndpointJSON)
		if got := len(b.Methods); got != tt.want {
			t.Errorf("Methods of a list of %d bytes has %d bytes, want %d", tt.bytes, got, tt.want)
		}
	}
}

// Weights are scaled down if their sum would overflow in ring hash (S2).
func TestWeightsFitARing(t *testing.T) {
	for _, tt := range []struct {
		endpoints int
		weight    uint32
	}{{3, 5}, {65536, 65536}, {70000, math.MaxUint32}} {
		backends := make([]*Backend, tt.endpoints)
		b := New(endpoint.Endpoint{Instance: "a", Addr: "a:1", Weight: tt.weight},
			endpoint.EndpointJSON)
		for i := range backends {
			backends[i] = b
		}

		sum := uint64(0)
		for _, ep := range GRPC(backends) {
			w := weight.FromEndpoint(ep).Weight
			if w == 0 || Of(ep) != b {
				t.Fatalf("%d endpoints of weight %d: one has weight %d in gRPC, want more than 0, or another endpoint",
					tt.endpoints, tt.weight, w)
			}

			sum += uint64(w)
		}

		if sum > math.MaxUint32 {
			t.Errorf("%d endpoints of weight %d: their sum in gRPC is %d, which overflows 32 bits",
				tt.endpoints, tt.weight, sum)
		}

		if tt.endpoints == 3 && sum != 15 {
			t.Errorf("3 endpoints of weight 5: their sum in gRPC is %d, want 15", sum)
		}
	}
}
