package mapping

import (
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

// Calls to clusters that a client does not know go to a cluster that it knows,
// except calls in strict lanes and to the leader.
func TestDetour(t *testing.T) {
	policy, err := ReadPolicy(etcdPolicy(`"route":[{"lane":"new","match":{"version":"new"},"strict":true},{"label":"lane"}],` +
		twoGroups))
	must.Succeed(t, err)

	s, err := Map(&Host{
		Authority: "a",
		Leader:    "s0",
		Services:  []Service{{Name: "S", Policy: policy, Leading: []string{"/S/Lead"}}},
		Endpoints: ends("s0 v1", "s1 v2", "s2 new", "s3 v1 - - lane=known",
			"s4 v1 - - lane=fresh")}, Client{})

	must.Succeed(t, err)
	targets := func(r *Resource) map[string][]string { // the clusters of each lane's calls
		config := new(routev3.RouteConfiguration)
		all := map[string][]string{}
		must.Succeed(t, r.Body.UnmarshalTo(config))

		for _, route := range config.VirtualHosts[0].Routes {
			calls := route.GetMatch().GetPath()
			if headers := route.GetMatch().GetHeaders(); headers != nil {
				calls = headers[0].GetExactMatch() //nolint:staticcheck // see exactly
			}

			all[calls] = nil
			sum := uint32(0)
			w := route.GetRoute().GetWeightedClusters()

			for _, c := range w.GetClusters() {
				all[calls] = append(all[calls], c.Name)
				sum += c.Weight.Value
			}

			total := w.GetTotalWeight().GetValue() //nolint:staticcheck // see weighted
			if total != sum {
				t.Errorf("calls of %q: the total weight is %d, want the sum %d", calls, total, sum)
			}
		}

		return all
	}

	if c := s.Substitute("a/only:lane=gone", s.Clusters); c != nil {
		t.Errorf("the substitute of a strict lane is %v, want none", c)
	}

	all := targets(s.Route)
	known := []string{"a/only:nobody", all["known"][0], all[""][0]}

	got := targets(Detour(known, s.Route))
	for calls, want := range map[string][]string{
		"/S/Lead": {"a/only:leader"},
		"new":     all["new"],
		"known":   all["known"],
		"fresh":   known[2:],
		"":        all[""][:1],
	} {
		if !slices.Equal(got[calls], want) || len(want) == 0 {
			t.Errorf("calls of %q go to %q, want %q", calls, got[calls], want)
		}
	}
}
