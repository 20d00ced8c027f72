package attr

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func set(n int, w uint32) []resolver.Endpoint {
	all := make([]resolver.Endpoint, n)
	for i := range all {
		addr := fmt.Sprintf("h%d:1", i)
		all[i] = New(&endpoint.Endpoint{Instance: addr, Addr: addr, Weight: w}, new(Storage))
	}
	return all
}

func TestS2_WeightsOfASetFit(t *testing.T) {
	for _, tt := range []struct {
		n     int
		w     uint32
		shift uint
	}{
		{0, 0, 0}, {3, 0, 0}, {1<<16 - 1, MaxRingWeight, 0}, {1 << 16, MaxRingWeight, 1}, {1<<16 + 1, math.MaxUint32, 1}, {1 << 18, MaxRingWeight, 3},
	} {
		all, sum := set(tt.n, tt.w), uint64(0)
		for _, ep := range all {
			sum += RingWeight(ep)
		}
		if got := RingShift(sum, tt.n); got != tt.shift {
			t.Errorf("%d endpoints of weight %d: shift %d, want %d", tt.n, tt.w, got, tt.shift)
		}
		sum = 0
		for _, ep := range all {
			scaled := Scaled(ep, tt.shift)
			sum += uint64(weight.FromEndpoint(scaled).Weight)
			if Endpoint(scaled) != Endpoint(ep) {
				t.Fatal("the endpoint is another")
			}
		}
		if sum > math.MaxUint32 {
			t.Errorf("%d endpoints of weight %d: their scaled sum is %d", tt.n, tt.w, sum)
		}
	}
	if w := weight.FromEndpoint(Scaled(set(1, 1)[0], 30)).Weight; w != 1 {
		t.Errorf("scaled down to %d", w)
	}
}

func TestState(t *testing.T) {
	if StateOf(resolver.State{}) != nil {
		t.Error("a state that was not set")
	}
	s := &State{Sequence: 7}
	if got := StateOf(SetState(resolver.State{}, s)); got != s {
		t.Errorf("got %v", got)
	}
}

func TestS7_MethodsOfAnyLengthAreNotRead(t *testing.T) {
	for _, tt := range []struct{ bytes, want int }{{endpoint.MaxMethods, endpoint.MaxMethods}, {endpoint.MaxMethods + 1, 0}} {
		ep := New(&endpoint.Endpoint{Metadata: map[string]string{endpoint.MethodsName: strings.Repeat("x", tt.bytes)}, Addr: "a:1"}, new(Storage))
		if got := len(Methods(ep)); got != tt.want {
			t.Errorf("of %d bytes %d were read, want %d", tt.bytes, got, tt.want)
		}
	}
}
