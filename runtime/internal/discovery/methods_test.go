package discovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestForms_AddUpChanges compares what changes add up to with a pass over the set.
func TestForms_AddUpChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]*Backend, 12)
	for i := range all {
		e := endpoint.Endpoint{Instance: fmt.Sprint(i), Addr: fmt.Sprintf("a:%d", i+1), Weight: uint32(i) << 14}
		if text := []string{"", "a.B/C", "a.B/C,D"}[i%3]; text != "" {
			e.Metadata = map[string]string{endpoint.MethodsName: text}
		}
		all[i] = newBackend(e, endpoint.EndpointJSON)
	}
	var m methods
	old := &State{}
	for range 500 {
		next := &State{Backends: slices.DeleteFunc(slices.Clone(all), func(*Backend) bool { return random.IntN(3) == 0 })}
		next.form(old)
		got := m.replace(old.Backends, next.Backends)
		old = next

		weights, want := uint64(0), []string(nil)
		for _, b := range next.Backends {
			weights += attr.RingWeight(b.grpc)
			want = append(want, attr.Methods(b.grpc))
		}
		slices.Sort(want)
		if want = slices.Compact(want); next.weights != weights || !slices.Equal(got.Methods, want) {
			t.Fatalf("%d and %q, want %d and %q", next.weights, got.Methods, weights, want)
		}
	}
}
