package discovery

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestSumsAreThoseOfAPass compares what changes add up to with a pass over the set.
func TestSumsAreThoseOfAPass(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	texts := []string{"", "a.B/C", "a.B/C,D"}
	all := make([]*Backend, 12)
	for i := range all {
		addr := string(rune('a'+i)) + ":1"
		e := endpoint.Endpoint{Instance: addr, Addr: addr, Weight: uint32(i) << 14}
		if text := texts[i%len(texts)]; text != "" {
			e.Metadata = map[string]string{endpoint.MethodsName: text}
		}
		all[i] = newBackend(e, endpoint.EndpointJSON)
	}
	var s sums
	var old []*Backend
	for range 500 {
		next := slices.DeleteFunc(slices.Clone(all), func(*Backend) bool { return random.IntN(3) == 0 })
		s.replace(old, next)
		old = next

		weights, methods := uint64(0), []string{}
		for _, b := range next {
			weights += attr.RingWeight(b.grpc)
			methods = append(methods, attr.Methods(b.grpc))
		}
		slices.Sort(methods)
		methods = slices.Compact(methods)
		if s.weights != weights || !slices.Equal(s.summary().Methods, methods) {
			t.Fatalf("sums %d and %q, want %d and %q", s.weights, s.summary().Methods, weights, methods)
		}
	}
}
