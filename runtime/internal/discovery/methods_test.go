package discovery

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/grpc/experimental/balancer/weight"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// TestForms_FollowChanges compares forms that are made change by change with the ones of the whole set.
func TestForms_FollowChanges(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]*Backend, 12)
	for i := range all {
		e := endpoint.Endpoint{Instance: fmt.Sprint(i), Addr: fmt.Sprintf("a:%d", i+1), Weight: uint32(i) << 27} // too much for a ring, sometimes
		if text := []string{"", "a.B/C", "a.B/C,D"}[i%3]; text != "" {
			e.Metadata = map[string]string{endpoint.MethodsName: text}
		}
		all[i] = newBackend(e, endpoint.EndpointJSON)
	}
	var m methods
	old := &State{}
	for range 500 {
		set := slices.DeleteFunc(slices.Clone(all), func(*Backend) bool { return random.IntN(3) == 0 })
		next, whole := &State{Backends: set}, &State{Backends: set}
		next.form(old)
		whole.form(&State{})
		got, want := m.replace(old.Backends, set), new(methods).replace(nil, set)
		old = next
		same := slices.EqualFunc(next.Endpoints, whole.Endpoints, func(a, b resolver.Endpoint) bool {
			return a.Addresses[0] == b.Addresses[0] && weight.FromEndpoint(a) == weight.FromEndpoint(b) && attr.Endpoint(a) == attr.Endpoint(b)
		})
		if !same || next.weights != whole.weights || next.scaled != whole.scaled || !slices.Equal(got.Methods, want.Methods) {
			t.Fatalf("%s: %+v, %q, want %+v, %q", instances(set), next.forms, got.Methods, whole.forms, want.Methods)
		}
	}
}
