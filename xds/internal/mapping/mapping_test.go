package mapping

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
)

var update = flag.Bool("update", false, "write the golden files")

// ends parses endpoints of the form "instance version zone weight
// name=value...", with "-" for an unset field.
func ends(specs ...string) (all []endpoint.Endpoint) {
	for i, spec := range specs {
		var e endpoint.Endpoint

		fields := strings.Fields(spec)

		for n, text := range fields {
			if text == "-" {
				continue
			}

			switch n {
			case 0:
				e.Instance = text
			case 1:
				e.Version = text
			case 2:
				e.Zone = text

			case 3:
				weight, err := strconv.ParseUint(text, 10, 32)
				if err != nil {
					panic(err)
				}

				e.Weight = uint32(weight)

			default:
				name, value, _ := strings.Cut(text, "=")

				if e.Metadata == nil {
					e.Metadata = map[string]string{}
				}

				e.Metadata[name] = value
			}
		}

		e.Addr = fmt.Sprintf("10.0.0.%d:9000", i+1)
		all = append(all, e)
	}

	return all
}

func etcdPolicy(options string) string {
	return `{"loadBalancingConfig":[{"etcd":{` + options + `}}]}`
}

const twoGroups = `"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"v2"},"weight":10}]`

// ledBy returns a host with a leader and a method for it.
func ledBy(leader string) Host {
	return Host{
		Leader:   leader,
		Services: []Service{{Leading: []string{"/acme.Echo/Lead"}}},
	}
}

// Each line of the list in docs/xds.md has a golden file.
func TestRows(t *testing.T) {
	first, err := ReadPolicy(`{"loadBalancingConfig":[{"pick_first":{}}]}`)
	must.Succeed(t, err)
	three := ends("a v1 z1", "b v2 z2", "c v1 z2")
	named := []endpoint.Endpoint{{Instance: "a", Addr: "db.example:80"}}

	for _, tt := range []struct {
		name      string
		config    string
		endpoints []endpoint.Endpoint // three if nil
		host      Host
		client    Client
	}{
		{name: "roundrobin"},
		{
			name:      "weights",
			config:    `{"loadBalancingConfig":[{"etcd_weighted":{}}]}`,
			endpoints: ends("a - - 3", "b - - 4294967295", "c"),
		},
		{
			name:      "split",
			config:    etcdPolicy(twoGroups),
			endpoints: ends("a v1", "b v2", "c v1", "d v3"),
		},
		{
			name: "splitempty",
			config: etcdPolicy(
				twoGroups + `,"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"x"}}]`),
			endpoints: ends("b v2"),
		},
		{
			name:      "lanes",
			config:    etcdPolicy(`"route":[{"lane":"red","match":{"version":"red"},"strict":true},{"label":"lane"}],"laneHeader":"x-lane"`),
			endpoints: ends("a", "b - - - lane=blue"),
		},
		{
			name:      "strictlabel",
			config:    etcdPolicy(`"route":[{"lane":"red","match":{"version":"red"}},{"label":"lane","strict":true}],"laneHeader":"x-lane"`),
			endpoints: ends("a", "b - - - lane=blue"),
		},

		// Services with different policies have different clusters. The first
		// service takes the calls of unknown services.
		{
			name:      "several",
			endpoints: ends("a", "b"),
			host:      Host{Services: []Service{{}, {Name: "acme.Other", Policy: first}}},
		},
		{name: "drain", config: etcdPolicy(`"drain":["b","10.0.0.3:9000"]`)},
		{name: "drainall", config: etcdPolicy(`"drain":["a","b","c"]`)},

		// Clients cannot call an endpoint whose address is a host name. If a
		// drain would leave only such endpoints, the drain is ignored. An
		// endpoint with a host name still belongs to the base, and counts for
		// minHealthyPercent.
		{
			name:      "drainleavesname",
			config:    etcdPolicy(`"drain":["b"],"route":[{"label":"lane"}]`),
			endpoints: slices.Concat(named, ends("-", "b", "c - - - lane=x")[1:]),
		},
		{
			name:      "drainleavesmore",
			config:    etcdPolicy(`"minHealthyPercent":60,"drain":["b"]`),
			endpoints: slices.Concat(named, ends("-", "b", "c")[1:]),
		},
		{
			name:      "onlynameinbase",
			config:    etcdPolicy(`"route":[{"label":"lane"}]`),
			endpoints: slices.Concat(named, ends("-", "b - - - lane=x")[1:]),
		},
		{
			name:   "zone",
			config: etcdPolicy(`"preferZone":true,"zoneMinPercent":50`),
			client: Client{Zone: "z1"},
		},
		{
			name:   "affinity",
			config: `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity","maxRingSize":2048}}]}`,
		},
		{
			name:   "affinitycrash",
			config: `{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"etcd-affinity"}}]}`,
			client: Client{NoRing: true},
		},
		{
			name:   "leastrequest",
			config: `{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":3}}]}`,
		},
		{
			name:   "peakewma",
			config: `{"loadBalancingConfig":[{"etcd_peak_ewma":{}}]}`,
		},
		{
			name:   "pickfirst",
			config: `{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`,
		},
		{
			name: "outliers",
			config: `{"loadBalancingConfig":[{"outlier_detection_experimental":{"failurePercentageEjection":{"threshold":50},
			"childPolicy":[{"round_robin":{}}]}}]}`,
		},
		{
			name: "methods",
			config: `{"methodConfig":[{"name":[{}],"timeout":"10s"},{"name":[{"service":"acme.Echo","method":"Slow"}],"timeout":"1.5s",
			"waitForReady":true,"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.1s","maxBackoff":"1s","backoffMultiplier":3,
			"retryableStatusCodes":["UNAVAILABLE","ABORTED"]}}],"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`,
		},

		// Values beyond what a client of some language reads: see limits.go.
		{
			name: "limits",
			config: `{"methodConfig":[{"name":[{}],"timeout":"0.000000001s","retryPolicy":{"maxAttempts":5,"initialBackoff":"0.0005s",
			"maxBackoff":"2147484s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}},{"name":[{"service":"a"}],"timeout":"9223372035s"}],
			"loadBalancingConfig":[{"outlier_detection_experimental":{"interval":"9223372035s","successRateEjection":{"minimumHosts":4294967295},
			"failurePercentageEjection":{"minimumHosts":0,"requestVolume":4294967295},"childPolicy":[{"etcd":{"laneHeader":"content-type","route":[{"label":"lane"}]}}]}}]}`,
		},
		{name: "leader", host: ledBy("b")},
		{name: "leaderdrained", config: etcdPolicy(`"drain":["b"]`), host: ledBy("b")},
		{name: "subset", config: etcdPolicy(`"subset":2`), client: Client{ID: "one"}},
		{
			name:   "zonedrained",
			config: etcdPolicy(`"preferZone":true,"subset":1,"drain":["a"]`),
			client: Client{Zone: "z1", ID: "one"},
		},

		// b and c have the same address. The cluster with both has the address
		// once, and the leader's cluster has the address of c.
		{
			name: "names",
			endpoints: []endpoint.Endpoint{
				{Instance: "a", Addr: "db.example:80"},
				{Instance: "b", Addr: "10.0.0.7:80"},
				{Instance: "c", Addr: "[0::ffff:10.0.0.7]:80"},
			},
			host: ledBy("c"),
		},
		{name: "nothing", endpoints: []endpoint.Endpoint{}},
		{
			name:      "pairs",
			config:    etcdPolicy(twoGroups + `,"preferZone":true,"route":[{"label":"lane"}],"drain":["c"],"childPolicy":[{"etcd_weighted":{}}]`),
			endpoints: ends("a v1 z1 3", "b v2 z2", "c v1 z1", "d v2 z1 - lane=blue"),
			client:    Client{Zone: "z1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			policy, err := ReadPolicy(tt.config)
			must.Succeed(t, err)
			h := tt.host
			h.Authority = "acme.echo"
			h.Endpoints = tt.endpoints
			if h.Endpoints == nil {
				h.Endpoints = three
			}

			if h.Services == nil {
				h.Services = make([]Service, 1)
			}

			h.Services[0].Name = "acme.Echo"
			h.Services[0].Policy = policy

			s, err := Map(&h, tt.client)
			must.Succeed(t, err)
			compare(t, tt.name, s)
		})
	}
}

// isSound fails the test for resources that a client would reject: a missing
// cluster or load, a gap in priorities, a locality without endpoints, or two
// localities with one name.
func isSound(t *testing.T, s *Snapshot) {
	t.Helper()

	for _, all := range []map[string]*Resource{s.Clusters, s.Loads} {
		names := slices.Sorted(maps.Keys(all))
		if !slices.Equal(names, s.Route.Clusters) {
			t.Errorf("the clusters are %v, want those in the routes, %v", names, s.Route.Clusters)
		}
	}

	for name, r := range s.Loads {
		load := new(endpointv3.ClusterLoadAssignment)
		must.Succeed(t, r.Body.UnmarshalTo(load))

		highest := -1
		seen := map[int]bool{}
		names := map[string]bool{}

		for _, l := range load.Endpoints {
			names[l.GetLocality().GetSubZone()] = true
			highest = max(highest, int(l.Priority))
			seen[int(l.Priority)] = true

			if len(l.LbEndpoints) == 0 {
				t.Errorf("%s has a locality without endpoints, want none", name)
			}
		}

		if len(seen) != highest+1 || len(names) != len(load.Endpoints) {
			t.Errorf("%s has the priorities %v in %d localities of %d names, want all up to %d, and a name for each",
				name, seen, len(load.Endpoints), len(names), highest)
		}
	}
}

// compare compares a snapshot with a golden file.
func compare(t *testing.T, name string, s *Snapshot) {
	t.Helper()

	isSound(t, s)
	var out bytes.Buffer
	write := func(r *Resource) {
		m, err := r.Body.UnmarshalNew()
		must.Succeed(t, err)
		raw, err := protojson.Marshal(m)
		must.Succeed(t, err)

		var v any
		if err := json.Unmarshal(raw, &v); err != nil { // protojson's spaces are random
			t.Fatal(err)
		}

		text, err := json.MarshalIndent(v, "", " ")
		must.Succeed(t, err)
		fmt.Fprintf(&out, "%s %s\n", m.ProtoReflect().Descriptor().Name(), text)
	}

	write(s.Route)

	for _, set := range []map[string]*Resource{s.Clusters, s.Loads} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			write(set[name])
		}
	}

	for _, text := range s.Unsupported {
		fmt.Fprintf(&out, "unsupported: %s\n", text)
	}

	file := filepath.Join("testdata", name+".txt")
	if *update {
		must.Succeed(t, os.WriteFile(file, out.Bytes(), 0o644))
		return
	}

	want, err := os.ReadFile(file)
	must.Succeed(t, err)

	if !bytes.Equal(out.Bytes(), want) {
		t.Errorf(
			"%s is out of date: go test ./internal/mapping -update, and look at the difference\n%s",
			file, out.Bytes())
	}
}

// A client receives as many lanes as fit, whatever labels the endpoints have. A
// service config that is too large without lanes is an error.
func TestMap_Bounds(t *testing.T) {
	lane := func(i int) string { return fmt.Sprintf("e%d v%d - - lane=l%d", i, i%250, i%260) }
	const label = `"route":[{"label":"lane"}]`

	for _, tt := range []struct {
		name      string
		config    string
		endpoints int
		spec      func(i int) string
		lanes     int // number of lanes with routes, -1 for an error
	}{
		{"lanes with two headers", etcdPolicy(label + `,"laneHeader":"x-lane"`), 300, lane, 256},
		{"methods in lanes", methodsNamed("s", 25, label), 300, lane, 180},
		{"long names of methods in lanes", methodsNamed(strings.Repeat("s", 9<<10), 1, label), 300,
			lane, 180},
		{"groups in lanes", etcdPolicy(splitOf(250) + "," + label), 1000, lane, 256},
		{"each group in every lane", etcdPolicy(splitOf(50) + "," + label), 50 * 50,
			func(i int) string { return fmt.Sprintf("e%d v%d - - lane=l%d", i, i%50, i/50) }, 50},
		{"methods", methodsNamed("s", 5100, splitOf(1)), 1, func(int) string { return "e" }, -1},
		{"methods and groups", methodsNamed("s", 1000, splitOf(250)), 250, func(i int) string {
			return fmt.Sprintf("e%d v%d", i, i)
		}, -1},
		{"a long name of a group", methodsNamed("s", 700,
			`"split":[{"match":{"`+strings.Repeat(`\"`, 30<<10)+`":""},"weight":1}]`), 10, lane, 0},
		{"strict lanes", methodsNamed("s", 100, listOf(60, "route",
			`{"lane":"strict#","match":{"version":"s#"},"strict":true}`)), 10, func(i int) string {
			return fmt.Sprintf("e%d", i)
		}, -1},
	} {
		s, err := mapped(t, tt.config, tt.endpoints, tt.spec)

		if tt.lanes < 0 {
			if !errors.Is(err, errTooLarge) {
				t.Errorf("%s: Map fails with %v, want %v", tt.name, err, errTooLarge)
			}

			continue
		}

		if err != nil {
			t.Errorf("%s: Map fails with %v, want no error", tt.name, err)
			continue
		}

		isSound(t, s)

		config := new(routev3.RouteConfiguration)
		must.Succeed(t, s.Route.Body.UnmarshalTo(config))

		names := map[string]bool{}
		bytes := 0

		routes := config.VirtualHosts[0].Routes
		for _, r := range routes {
			for _, h := range r.GetMatch().GetHeaders() {
				names[h.GetExactMatch()] = h.GetExactMatch() != "" //nolint:staticcheck // see exactly
			}
		}

		for _, c := range s.Clusters {
			bytes += proto.Size(c.Body)
		}

		delete(names, "")

		if len(routes) > maxRoutes ||
			len(s.Route.Body.Value) > maxBytes ||
			bytes > maxBytes ||
			len(names) != tt.lanes {
			t.Errorf("%s: %d routes of %d lanes in %d bytes, and %d bytes of clusters (%v); want %d lanes, at most %d routes and %d bytes of each",
				tt.name, len(routes), len(names), len(s.Route.Body.Value), bytes,
				s.Unsupported, tt.lanes, maxRoutes, maxBytes)
		}
	}
}

// Whatever a service's instances write, a client uses a bounded number of their
// addresses, and gets bounded messages.
func TestLoad_Bounds(t *testing.T) {
	for config, want := range map[string]int{
		"": maxConnections,
		// eight in each lane
		etcdPolicy(twoGroups + `,"route":[{"label":"lane"}],"childPolicy":[{"etcd_weighted":{}}]`): 2*maxConnections + 100*8,
	} {
		s, err := mapped(t, config, 4300, func(i int) string {
			return fmt.Sprintf("%d v1 - - lane=%d", i, i%200*(i%2))
		})
		must.Succeed(t, err)
		isSound(t, s)

		addresses := make(map[string]bool)
		bytes := 0

		for _, r := range s.Loads {
			load := new(endpointv3.ClusterLoadAssignment)
			must.Succeed(t, r.Body.UnmarshalTo(load))
			bytes += len(r.Body.Value)

			for _, l := range load.Endpoints {
				for _, e := range l.LbEndpoints {
					addresses[e.GetEndpoint().GetAddress().String()] = true
				}
			}
		}

		if len(addresses) > want ||
			bytes > maxBytes ||
			!strings.Contains(fmt.Sprint(s.Unsupported), "more than 200 endpoints") {
			t.Errorf("%s: %d addresses in %d bytes (%v); want at most %d, and a note of the limit",
				config, len(addresses), bytes, s.Unsupported, want)
		}
	}
}

// methodsNamed returns a service config with timeouts for n services, and
// options of the policy etcd.
func methodsNamed(prefix string, n int, options string) string {
	return `{"methodConfig":[{` + listOf(n, "name", `{"service":"`+prefix+`#"}`) +
		`,"timeout":"1s"}],"loadBalancingConfig":[{"etcd":{` + options + `}}]}`
}

func splitOf(n int) string {
	return listOf(n, "split", `{"match":{"version":"v#"},"weight":1}`)
}

// listOf returns a field with a list of n copies of element. In each copy its
// index replaces "#".
func listOf(n int, field, element string) string {
	all := make([]string, n)
	for i := range all {
		all[i] = strings.ReplaceAll(element, "#", strconv.Itoa(i))
	}

	return `"` + field + `":[` + strings.Join(all, ",") + `]`
}

// mapped returns the resources of a host "a" whose endpoints have different
// addresses.
func mapped(
	t *testing.T,
	config string,
	endpoints int,
	spec func(i int) string,
) (*Snapshot, error) {
	t.Helper()

	policy, err := ReadPolicy(config)
	must.Succeed(t, err)

	h := &Host{Authority: "a", Services: []Service{{Policy: policy}}}
	for i := range endpoints {
		h.Endpoints = append(h.Endpoints, ends(spec(i))...)
		h.Endpoints[i].Addr = fmt.Sprintf("10.0.%d.%d:1", i/250, i%250)
	}

	return Map(h, Client{})
}
