package mapping

import (
	"fmt"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

// Whatever endpoints say, a client is given a bounded number of routes.
func TestRoutesAreBounded(t *testing.T) {
	anything := func(i int) string { return fmt.Sprint("e", i) }
	for name, tt := range map[string]struct {
		config string
		spec   func(i int) string
	}{
		"methods": {"", func(i int) string { return fmt.Sprintf("e%d - - - grpc_methods=a.B/M%d,%s", i, i, manyMethods(i)) }},
		"lanes":   {etcdPolicy(`"route":[{"label":"lane"}],"laneHeader":"x-lane"`), func(i int) string { return fmt.Sprintf("e%d - - - lane=l%d", i, i) }},
		"both": {etcdPolicy(`"route":[{"label":"lane"}]`), func(i int) string {
			return fmt.Sprintf("e%d - - - lane=l%d grpc_methods=a.B/M%d,N%d", i, i%200, i%4, i)
		}},
		"methods of the service config": {withMethods(8000, "x"), anything},
		"a long name of a group":        {withMethods(700, strings.Repeat(`\"`, 30<<10)), anything},
		"long names of methods": {`{"methodConfig":[{"name":[{"service":"` + strings.Repeat("s", 20<<10) + `"}]}],"loadBalancingConfig":[{"etcd":{"route":[{"label":"lane"}]}}]}`,
			func(i int) string { return fmt.Sprintf("e%d - - - lane=l%d", i, i) }},
	} {
		var specs []string
		for i := range 300 {
			specs = append(specs, tt.spec(i))
		}
		s := mapped(t, tt.config, specs)
		config := new(routev3.RouteConfiguration)
		if err := s.Route.Body.UnmarshalTo(config); err != nil {
			t.Fatal(err)
		}
		if n := len(config.GetVirtualHosts()[0].GetRoutes()); n == 0 || n > maxRoutes {
			t.Errorf("%s: %d routes, lost: %v", name, n, s.Lost)
		}
		if n := len(s.Route.Body.GetValue()); n > 2<<20 {
			t.Errorf("%s: %d bytes of routes", name, n)
		}
	}
}

// The clusters of a host stay below what gRPC receives at once, with many lanes, groups, or sets of methods of a rollout.
func TestClustersAreBounded(t *testing.T) {
	for name, tt := range map[string]struct {
		groups, endpoints int
		spec              func(i int) string
	}{
		"many lanes and groups":    {250, 1000, func(i int) string { return fmt.Sprintf("e%d v%d - - lane=l%d", i, i%250, i%260) }},
		"each group in every lane": {50, 50 * 50, func(i int) string { return fmt.Sprintf("e%d v%d - - lane=l%d", i, i%50, i/50) }},
		"methods": {250, 250 * 6, func(i int) string {
			return fmt.Sprintf("e%d v%d - - grpc_methods=S/A,%s", i, i%250, []string{"B,C", "C,D", "D,E", "E,F", "F,G", "G,H"}[i/250])
		}},
	} {
		var groups, specs []string
		for i := range tt.groups {
			groups = append(groups, fmt.Sprintf(`{"match":{"version":"v%d"},"weight":1}`, i))
		}
		for i := range tt.endpoints {
			specs = append(specs, tt.spec(i))
		}
		s := mapped(t, etcdPolicy(`"split":[`+strings.Join(groups, ",")+`],"route":[{"label":"lane"}],"childPolicy":[{"least_request_experimental":{"choiceCount":2}}]`), specs)
		isSound(t, s)
		total := 0
		for _, c := range s.Clusters {
			total += proto.Size(c.Body)
		}
		if total < maxBytes/4 || total > maxBytes || len(s.Lost) != 2 {
			t.Errorf("%s: %d bytes of %d clusters, lost: %v", name, total, len(s.Clusters), s.Lost)
		}
	}
}

// So do the endpoints of a cluster. Those that get calls come first, and a long instance id is not told.
func TestLoadsAreBounded(t *testing.T) {
	for _, tt := range []struct{ idBytes, endpoints, want int }{{250, 7000, 6000}, {endpoint.MaxInstance, 1500, 1500}} {
		var specs []string
		for i := range tt.endpoints {
			specs = append(specs, fmt.Sprintf("%0*d", tt.idBytes, i))
		}
		s := mapped(t, etcdPolicy(`"drain":["10.0.0.0:1"],"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"x"}}]`), specs)
		load := new(endpointv3.ClusterLoadAssignment)
		if err := s.Loads["a"].Body.UnmarshalTo(load); err != nil {
			t.Fatal(err)
		}
		told := load.GetEndpoints()[0].GetLbEndpoints()
		if n := proto.Size(load); n > maxBytes || len(told) < tt.want || len(s.Lost) != 1 {
			t.Errorf("%d bytes of %d endpoints, want at least %d, lost: %v", n, len(told), tt.want, s.Lost)
		}
		first := told[0].GetHealthStatus()
		if drained := first == corev3.HealthStatus_DRAINING; drained != (len(told) == tt.endpoints) {
			t.Errorf("the first of %d endpoints is %s", len(told), first)
		}
	}
}

// The methods that the endpoints of many lanes name are looked through up to a bound: 30 MiB of them took 2.5 GiB.
func TestMethodsOfManyLanesAreBounded(t *testing.T) {
	var specs []string
	for i := range 250 {
		specs = append(specs, fmt.Sprintf("e%d - - - lane=l%d grpc_methods=S%d/%s", i, i, i, manyMethods(i%5)))
	}
	policy, err := ReadPolicy(etcdPolicy(`"route":[{"label":"lane"}]`))
	if err != nil {
		t.Fatal(err)
	}
	services := []Service{{Name: "S0", Policy: policy}, {Name: "S1", Policy: policy}}
	m := newMapping(&Host{Authority: "a", Services: services, Endpoints: ends(specs...)}, Client{})
	p, named := m.services[1], 0
	for text := range m.known {
		named += len(text)
	}
	if named < maxNamed*9/10 || named > maxNamed || len(p.lost) != 1 {
		t.Errorf("%d bytes of texts were looked through, want about %d; lost: %v", named, maxNamed, p.lost)
	}
	for i := range p.lanes {
		l := &p.lanes[i]
		if s, elsewhere := p.serving(path{"S", "M"}, l, &p.base); len(s.members) != 1 || elsewhere {
			t.Errorf("calls in the lane %s go to %d of its endpoints, or elsewhere: %v", l.name, len(s.members), elsewhere)
		}
	}
}

// withMethods is a service config that names services, and a group of a split by a piece of metadata that no endpoint has.
func withMethods(services int, group string) string {
	var names []string
	for i := range services {
		names = append(names, fmt.Sprintf(`{"service":"s%d"}`, i))
	}
	return `{"methodConfig":[{"name":[` + strings.Join(names, ",") + `],"timeout":"1s"}],"loadBalancingConfig":[{"etcd":{"split":[{"match":{"` +
		group + `":""},"weight":1}]}}]}`
}

// mapped returns what a client is told of a host with a live config, and endpoints at an address each.
func mapped(t *testing.T, config string, specs []string) *Snapshot {
	t.Helper()
	policy, err := ReadPolicy(config)
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Authority: "a", Services: []Service{{Policy: policy}}, Endpoints: ends(specs...)}
	for i := range h.Endpoints {
		h.Endpoints[i].Addr = fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)
	}
	s, err := Map(h, Client{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// manyMethods returns as many methods as an endpoint may name, for few endpoints.
func manyMethods(i int) string {
	if i > 5 {
		return "M"
	}
	var list []string
	for n := 0; len(list)*8 < endpoint.MaxMethods-200; n++ {
		list = append(list, fmt.Sprintf("X%d%05d", i, n))
	}
	return strings.Join(list, ",")
}
