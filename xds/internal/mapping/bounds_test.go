package mapping

import (
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

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

// With many lanes and many groups, what a client is told of clusters stays below what gRPC receives at once.
func TestClustersAreBounded(t *testing.T) {
	var groups, specs []string
	for i := range 250 {
		groups = append(groups, fmt.Sprintf(`{"match":{"version":"v%d"},"weight":1}`, i))
	}
	for i := range 1000 {
		specs = append(specs, fmt.Sprintf("e%d v%d - - lane=l%d", i, i%250, i%260))
	}
	s := mapped(t, etcdPolicy(`"split":[`+strings.Join(groups, ",")+`],"route":[{"label":"lane"}]`), specs)
	isSound(t, s)
	total := len(s.Route.Body.GetValue())
	for _, c := range s.Clusters {
		total += len(c.Body.GetValue())
	}
	if total > 3<<20 {
		t.Errorf("%d bytes of %d clusters", total, len(s.Clusters))
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
