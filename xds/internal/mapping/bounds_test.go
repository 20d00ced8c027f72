package mapping

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// A client receives all lanes that fit, whatever labels endpoints have. A service config that is too large without lanes is an error.
func TestMap_Bounds(t *testing.T) {
	lane := func(i int) string { return fmt.Sprintf("e%d v%d - - lane=l%d", i, i%250, i%260) }
	const label = `"route":[{"label":"lane"}]`
	for _, tt := range []struct {
		name      string
		config    string
		endpoints int
		spec      func(i int) string
		lanes     int // with routes; -1: an error
	}{
		{"lanes with two headers", etcdPolicy(label + `,"laneHeader":"x-lane"`), 300, lane, 256},
		{"methods in lanes", methodsOf(25, label), 300, lane, 180},
		{"long names of methods in lanes", methodsNamed(strings.Repeat("s", 9<<10), 1, label), 300, lane, 180},
		{"groups in lanes", etcdPolicy(splitOf(250) + "," + label), 1000, lane, 256},
		{"each group in every lane", etcdPolicy(splitOf(50) + "," + label), 50 * 50,
			func(i int) string { return fmt.Sprintf("e%d v%d - - lane=l%d", i, i%50, i/50) }, 50},
		{"methods", methodsOf(5100, splitOf(1)), 1, func(int) string { return "e" }, -1},
		{"methods and groups", methodsOf(1000, splitOf(250)), 250, func(i int) string { return fmt.Sprintf("e%d v%d", i, i) }, -1},
		{"a long name of a group", methodsOf(700, `"split":[{"match":{"`+strings.Repeat(`\"`, 30<<10)+`":""},"weight":1}]`), 10, lane, 0},
		{"strict lanes", methodsOf(100, strictLanes(60)), 10, func(i int) string { return fmt.Sprintf("e%d", i) }, -1},
	} {
		s, err := mapped(t, tt.config, tt.endpoints, tt.spec)
		if tt.lanes < 0 {
			if !errors.Is(err, errTooLarge) {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		isSound(t, s)
		config, names, bytes := new(routev3.RouteConfiguration), map[string]bool{}, 0
		if err := s.Route.Body.UnmarshalTo(config); err != nil {
			t.Fatal(err)
		}
		routes := config.GetVirtualHosts()[0].GetRoutes()
		for _, r := range routes {
			for _, h := range r.GetMatch().GetHeaders() {
				names[h.GetExactMatch()] = h.GetExactMatch() != "" //nolint:staticcheck // see exactly
			}
		}
		for _, c := range s.Clusters {
			bytes += proto.Size(c.Body)
		}
		delete(names, "")
		if len(routes) > maxRoutes || len(s.Route.Body.GetValue()) > maxBytes || bytes > maxBytes || len(names) != tt.lanes {
			t.Errorf("%s: %d routes of %d lanes in %d bytes, and %d bytes of clusters: %v", tt.name, len(routes), len(names), len(s.Route.Body.GetValue()), bytes, s.Unsupported)
		}
	}
}

// A client receives the endpoints of each cluster, and a bounded number of fallback endpoints.
func TestLoad_Bounds(t *testing.T) {
	s, err := mapped(t, etcdPolicy(twoGroups+`,"route":[{"label":"lane"}],"childPolicy":[{"etcd_weighted":{}}]`), 43_000,
		func(i int) string { return fmt.Sprintf("%d v1 - - lane=%d", i, i%200*(i%2)) })
	if err != nil {
		t.Fatal(err)
	}
	isSound(t, s)
	most, all := 0, 0
	for _, load := range s.Loads {
		most, all = max(most, len(load.Body.GetValue())), all+len(load.Body.GetValue())
	}
	if most > maxBytes || all > 4*maxBytes || len(s.Loads) != 102 || !strings.Contains(fmt.Sprint(s.Unsupported), "more than 20000 endpoints") {
		t.Errorf("%d bytes of %d clusters, %d of one: %v", all, len(s.Loads), most, s.Unsupported)
	}
}

// methodsOf is a service config with timeouts for some services, and options of the policy etcd.
func methodsOf(n int, options string) string { return methodsNamed("s", n, options) }

func methodsNamed(prefix string, n int, options string) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf(`{"service":"%s%d"}`, prefix, i))
	}
	return `{"methodConfig":[{"name":[` + strings.Join(names, ",") + `],"timeout":"1s"}],"loadBalancingConfig":[{"etcd":{` + options + `}}]}`
}

func splitOf(groups int) string {
	var all []string
	for i := range groups {
		all = append(all, fmt.Sprintf(`{"match":{"version":"v%d"},"weight":1}`, i))
	}
	return `"split":[` + strings.Join(all, ",") + `]`
}

func strictLanes(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`{"lane":"strict%d","match":{"version":"s%d"},"strict":true}`, i, i))
	}
	return `"route":[` + strings.Join(all, ",") + `]`
}

// mapped returns the resources of a host "a" whose endpoints have different addresses.
func mapped(t *testing.T, config string, endpoints int, spec func(i int) string) (*Snapshot, error) {
	t.Helper()
	policy, err := ReadPolicy(config)
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Authority: "a", Services: []Service{{Policy: policy}}}
	for i := range endpoints {
		h.Endpoints = append(h.Endpoints, ends(spec(i))...)
		h.Endpoints[i].Addr = fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)
	}
	return Map(h, Client{})
}
