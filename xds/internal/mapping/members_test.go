package mapping

import (
	"slices"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Clients cannot call an endpoint whose address is a name, so a drain that leaves only such endpoints is ignored. But the endpoint counts for
// minHealthyPercent and as a member of the base.
func TestDrain_BesideNames(t *testing.T) {
	const lanes = `"route":[{"label":"lane"}]`
	for _, tt := range []struct {
		name, options string
		specs         []string // the endpoint "name" has one for its address
		want          []string // get the calls without a lane
	}{
		{"nobody else is left", `"drain":["ip"]`, []string{"ip", "name"}, []string{"ip"}},
		{"another is left", `"drain":["ip"]`, []string{"ip", "name", "other"}, []string{"other"}},
		{"a share is left", `"minHealthyPercent":60,"drain":["ip"]`, []string{"ip", "name", "other"}, []string{"other"}},
		{"too small a share is left", `"minHealthyPercent":70,"drain":["ip"]`, []string{"ip", "name", "other"}, []string{"ip", "other"}},
		{"nobody else is left in the base", `"drain":["ip"],` + lanes, []string{"ip", "name", "branch - - - lane=x"}, []string{"ip"}},
		{"the base has only names", lanes, []string{"name", "branch - - - lane=x"}, nil},
		{"there is no base", lanes, []string{"name - - - lane=y", "branch - - - lane=x"}, []string{"branch"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			policy, err := ReadPolicy(etcdPolicy(tt.options))
			if err != nil {
				t.Fatal(err)
			}
			h := &Host{Authority: "a", Services: []Service{{Policy: policy}}, Endpoints: ends(tt.specs...)}
			for i := range h.Endpoints {
				if h.Endpoints[i].Instance == "name" {
					h.Endpoints[i].Addr = "host:1"
				}
			}
			s, err := Map(h, Client{})
			if err != nil {
				t.Fatal(err)
			}
			isSound(t, s)
			load := new(endpointv3.ClusterLoadAssignment)
			if err := s.Loads["a"].Body.UnmarshalTo(load); err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range load.GetEndpoints() {
				for _, e := range l.GetLbEndpoints() {
					at := e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress() + ":9000"
					got = append(got, h.Endpoints[slices.IndexFunc(h.Endpoints, func(e endpoint.Endpoint) bool { return e.Addr == at })].Instance)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("calls go to %v, want %v", got, tt.want)
			}
		})
	}
}
