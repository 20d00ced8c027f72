package mapping

import (
	"slices"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// Endpoints with the same instance id have different places on a ring, like in the runtime: a client would call only one of them.
func TestRing_SameID(t *testing.T) {
	ids := []string{"a", "user", "user"}
	s, err := mapped(t, `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"x"}}]}`, 3, func(i int) string { return ids[i] })
	if err != nil {
		t.Fatal(err)
	}
	load := new(endpointv3.ClusterLoadAssignment)
	if err := s.Loads["a"].Body.UnmarshalTo(load); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range load.GetEndpoints()[0].GetLbEndpoints() {
		got = append(got, e.GetMetadata().GetFilterMetadata()["envoy.lb"].GetFields()["hash_key"].GetStringValue())
	}
	if want := []string{"a", "user", "user 10.0.0.2:1"}; !slices.Equal(got, want) {
		t.Errorf("the keys are %q, want %q", got, want)
	}
}
