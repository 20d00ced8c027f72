package discovery

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"reflect"
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
		addr := fmt.Sprintf("%c:%d", 'a'+i/3, i) // three of each instance id
		e := endpoint.Endpoint{Instance: addr[:1], Addr: addr, Weight: uint32(i) << 14}
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
		twins, twin := 0, ""
		for i, b := range next {
			if i > 0 && b.Endpoint.Instance == next[i-1].Endpoint.Instance {
				twins++
				twin = cmp.Or(twin, b.Endpoint.Instance)
			}
			weights += attr.RingWeight(b.grpc)
			methods = append(methods, attr.Methods(b.grpc))
		}
		slices.Sort(methods)
		methods = slices.Compact(methods)
		want := &attr.Summary{Methods: methods, Twins: twins, Twin: twin}
		if got := s.summary(); s.weights != weights || !reflect.DeepEqual(got, want) && len(got.Methods)+len(methods) > 0 {
			t.Fatalf("sums %d and %+v, want %d and %+v", s.weights, got, weights, want)
		}
	}
}
