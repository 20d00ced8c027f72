package mapping

import (
	"slices"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
)

// Two instances with one id have a place each on a ring, as for the runtime's clients: a client calls none but one at a place.
func TestRing_SameID(t *testing.T) {
	s := mapped(t, `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"x"}}]}`, []string{"a", "user", "user"})
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
