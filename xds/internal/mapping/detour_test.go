package mapping

import (
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// While a client learns of clusters, the calls of those that it lacks go to another, save those that go nowhere else.
func TestDetour(t *testing.T) {
	policy, err := ReadPolicy(etcdPolicy(`"route":[{"lane":"old","match":{"version":"old"},"strict":true},
		{"lane":"new","match":{"version":"new"},"strict":true},{"label":"lane"}],` +
		`"split":[{"match":{"version":"v1"},"weight":1},{"match":{"version":"v2"},"weight":1}]`))
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Authority: "a", Leader: "s0", Services: []Service{{Name: "S", Policy: policy, Leading: []string{"/S/Lead"}}},
		Endpoints: ends("s0 v1", "s1 v2", "s2 old", "s3 new", "s4 v1 - - lane=known", "s5 v1 - - lane=fresh")}
	s, err := Map(h, Client{})
	if err != nil {
		t.Fatal(err)
	}
	unknown := []string{"a/lane=new/split=rest/or=others", "a/lane=fresh/split=%22version%22%3D%22v1%22%3B/or=others", "a/leader", "a/split=%22version%22%3D%22v2%22%3B/or=others"}
	for _, name := range unknown {
		if s.Clusters[name] == nil {
			t.Fatalf("%s is no cluster", name)
		}
	}
	detour := Detour(s.Route, "by", func(cluster string) bool { return !slices.Contains(unknown, cluster) })
	config := new(routev3.RouteConfiguration)
	if err := detour.Body.UnmarshalTo(config); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"leader": {"a/leader"}, "old": {"a/lane=old/split=rest/or=others"}, "new": {"a/lane=new/split=rest/or=others"},
		"known": {"a/lane=known/split=%22version%22%3D%22v1%22%3B/or=others"}, "fresh": {"by"}, "": {"a/split=%22version%22%3D%22v1%22%3B/or=others"},
	}
	for _, route := range config.GetVirtualHosts()[0].GetRoutes() {
		calls := ""
		if headers := route.GetMatch().GetHeaders(); headers != nil {
			calls = headers[0].GetExactMatch() //nolint:staticcheck // see exactly
		} else if route.GetMatch().GetPath() == "/S/Lead" {
			calls = "leader"
		}
		var got []string
		if name := route.GetRoute().GetCluster(); name != "" {
			got = append(got, name)
		}
		for _, c := range route.GetRoute().GetWeightedClusters().GetClusters() {
			got = append(got, c.GetName())
		}
		if !slices.Equal(got, want[calls]) {
			t.Errorf("calls of %q go to %q, want %q", calls, got, want[calls])
		}
		delete(want, calls)
	}
	if len(want) > 0 {
		t.Errorf("there is no route for %v", want)
	}
}
