package mapping

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/methods"
)

// A call goes to the endpoints that the runtime's clients take to serve its method, whatever these say.
func TestCallsGoWhereTheirMethodIsServed(t *testing.T) {
	policy, err := ReadPolicy("")
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{"-", "S/A", "S/A,B", "S/B;T/A", "T/B", "S/A;T/A,B", "U/C"}
	random := rand.New(rand.NewPCG(1, 1))
	for range 500 {
		var specs, said []string
		for i := range 1 + random.IntN(4) {
			text := texts[random.IntN(len(texts))]
			specs = append(specs, fmt.Sprintf("e%d - - - grpc_methods=%s", i, strings.Trim(text, "-")))
			if distinct := strings.Trim(text, "-"); !slices.Contains(said, distinct) {
				said = append(said, distinct)
			}
		}
		h := &Host{Authority: "a", Services: []Service{{Name: "S", Policy: policy}}, Endpoints: ends(specs...)}
		s, err := Map(h, Client{})
		if err != nil {
			t.Fatal(err)
		}
		isSound(t, s)
		for _, method := range []string{"/S/A", "/S/B", "/S/Unlisted", "/T/A", "/T/B", "/T/Unlisted", "/U/C", "/V/X"} {
			lacking := methods.Lacking(method, said, nil)
			var want []string
			for i := range h.Endpoints {
				if !slices.Contains(lacking, methodsText(&h.Endpoints[i])) {
					want = append(want, fmt.Sprintf("10.0.0.%d", i+1))
				}
			}
			if got := calledFor(t, s, method); !slices.Equal(got, want) {
				t.Fatalf("%v: %s goes to %v, want %v", specs, method, got, want)
			}
		}
	}
}

// A method that only drained endpoints serve goes to the others, which say that they have not got it.
func TestMethods_DrainedDoNotCount(t *testing.T) {
	policy, err := ReadPolicy(etcdPolicy(`"drain":["new","other"]`))
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Authority: "a", Services: []Service{{Name: "S", Policy: policy}},
		Endpoints: ends("new - - - grpc_methods=S/A,B", "old - - - grpc_methods=S/A", "older - - - grpc_methods=S/C", "other - - - grpc_methods=S/A")}
	s, err := Map(h, Client{})
	if err != nil {
		t.Fatal(err)
	}
	isSound(t, s)
	for method, want := range map[string][]string{
		"/S/A": {"10.0.0.2", "10.0.0.4"}, "/S/B": {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"}, "/S/C": {"10.0.0.3"},
	} {
		if got := calledFor(t, s, method); !slices.Equal(got, want) {
			t.Errorf("%s goes to %v, want %v", method, got, want)
		}
	}
}

// A rollout that adds a method makes routes for that one, however many others a server has, and so leaves room for lanes.
func TestMethods_ThatAllNameHaveNoRoutes(t *testing.T) {
	all := "S/M"
	for i := range 1100 {
		all += fmt.Sprint(",M", i)
	}
	specs := []string{"old - - - grpc_methods=" + all, "new - - - grpc_methods=" + all + ",New"}
	if got := calledFor(t, mapped(t, "", specs), "/S/New"); !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("the new method goes to %v", got)
	}
	const lanes = 60
	for i := range lanes {
		specs = append(specs, fmt.Sprintf("e%d - - - lane=l%d grpc_methods=%s", i, i, all))
	}
	s := mapped(t, etcdPolicy(`"route":[{"label":"lane"}]`), specs)
	config := new(routev3.RouteConfiguration)
	if err := s.Route.Body.UnmarshalTo(config); err != nil {
		t.Fatal(err)
	}
	// Of the new method, of its service, and of all else; and each without a lane.
	if n := len(config.GetVirtualHosts()[0].GetRoutes()); n != 3*(lanes+1) || len(s.Lost) > 0 {
		t.Errorf("%d routes, lost: %v", n, s.Lost)
	}
}

// What a route costs does not depend on how many endpoints there are.
func TestRoutes_CostNoMoreBesideManyEndpoints(t *testing.T) {
	policy, err := ReadPolicy(etcdPolicy(`"route":[{"label":"lane"}],` + twoGroups))
	if err != nil {
		t.Fatal(err)
	}
	cost := func(endpoints int) float64 {
		h := &Host{Authority: "a", Services: []Service{{Policy: policy}}}
		for i := range endpoints {
			h.Endpoints = append(h.Endpoints, ends(fmt.Sprintf("e%d v1 - - lane=%s grpc_methods=S/A%d", i, []string{"", "x"}[i%2], i%8))...)
			h.Endpoints[i].Addr = fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)
		}
		p := newMapping(h, Client{}).services[0]
		return testing.AllocsPerRun(1, func() { p.routesOf(path{"S", "A2"}) })
	}
	if few, many := cost(16), cost(4000); few != many {
		t.Errorf("a route costs %v allocations beside 16 endpoints, %v beside 4,000", few, many)
	}
}

// calledFor returns the addresses that calls of a method go to.
func calledFor(t *testing.T, s *Snapshot, method string) (addrs []string) {
	t.Helper()
	config := new(routev3.RouteConfiguration)
	if err := s.Route.Body.UnmarshalTo(config); err != nil {
		t.Fatal(err)
	}
	for _, route := range config.GetVirtualHosts()[0].GetRoutes() {
		m := route.GetMatch()
		if m.GetPath() != method && (m.GetPath() != "" || !strings.HasPrefix(method, m.GetPrefix())) {
			continue
		}
		load := new(endpointv3.ClusterLoadAssignment)
		if err := s.Loads[route.GetRoute().GetCluster()].Body.UnmarshalTo(load); err != nil {
			t.Fatal(err)
		}
		for _, e := range load.GetEndpoints()[0].GetLbEndpoints() {
			addrs = append(addrs, e.GetEndpoint().GetAddress().GetSocketAddress().GetAddress())
		}
		return addrs
	}
	t.Fatalf("no route takes %s", method)
	return nil
}
