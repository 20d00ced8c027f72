package targets

import (
	"reflect"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/inventory"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
)

func TestMetricsPort(t *testing.T) {
	named := Port{Metadata: "metrics"}
	with := func(addr, port string) endpoint.Endpoint {
		return endpoint.Endpoint{Addr: addr, Metadata: map[string]string{"metrics": port}}
	}
	for _, tc := range []struct {
		name string
		port Port
		e    endpoint.Endpoint
		want string // "" if the instance is omitted
	}{
		{"the instance's own", Port{}, with("10.0.0.7:9000", "1"), "10.0.0.7:9000"},
		{"a number", Port{Number: 9100}, with("10.0.0.7:9000", "1"), "10.0.0.7:9100"},
		{"a number of IPv6", Port{Number: 9100}, with("[::1]:9000", "1"), "[::1]:9100"},
		{"metadata", named, with("db.example:9000", "9100"), "db.example:9100"},
		{"no metadata", named, endpoint.Endpoint{Addr: "10.0.0.7:9000"}, ""},
		{"metadata that is no port", named, with("10.0.0.7:9000", "9100/admin"), ""},
		{"metadata that is an address", named, with("10.0.0.7:9000", "evil.example:80"), ""},
		{"metadata that is too great", named, with("10.0.0.7:9000", "65536"), ""},
	} {
		got, ok := tc.port.of(&tc.e)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s: target %q, %v; want %q", tc.name, got, ok, tc.want)
		}
	}
}

func TestTargetsOf(t *testing.T) {
	value := `{"Addr":"10.0.0.7:9000","Metadata":{"version":"v1","zone":"eu","weight":3,"team.name":"blue","team-name":"","größe":"1"}}`
	services := inventory.All([]inventory.Entry{
		{Key: "acme/user/a", Value: []byte(value), Lease: 1, CreateRevision: 1},
		{Key: "acme/user/b", Value: []byte("10.0.0.8:9000"), Lease: 1, CreateRevision: 2},
		// an older entry of b's address
		{Key: "acme/user/c", Value: []byte("10.0.0.8:9000"), Lease: 1, CreateRevision: 1},
		{
			Key:   "acme/user/d",
			Value: []byte(`{"Addr":"10.0.0.9:9000","Metadata":{"grpc_leaving":"true"}}`),
			Lease: 1,
		},
		{Key: "acme/user/e", Value: []byte("nonsense"), Lease: 1},
		{Key: "config/db/primary", Value: []byte("db:5432")},
		{
			Key:   inventory.ConfigPrefix + "acme/user",
			Value: []byte(`{"loadBalancingConfig":[{"etcd":{"drain":["b"],"childPolicy":[{"round_robin":{}}]}}]}`),
		},
	})

	groups := Of(services, "", Port{})

	want := []Group{
		{[]string{"10.0.0.7:9000"}, map[string]string{
			"__meta_etcdrpc_key":                "acme/user",
			"__meta_etcdrpc_instance":           "a",
			"__meta_etcdrpc_address":            "10.0.0.7:9000",
			"__meta_etcdrpc_layout":             "endpoint_json",
			"__meta_etcdrpc_state":              "registered",
			"__meta_etcdrpc_version":            "v1",
			"__meta_etcdrpc_zone":               "eu",
			"__meta_etcdrpc_weight":             "3",
			"__meta_etcdrpc_metadata_team_name": "blue", "__meta_etcdrpc_metadata_gr__e": "1"}},
		{[]string{"10.0.0.8:9000"}, map[string]string{
			"__meta_etcdrpc_key":      "acme/user",
			"__meta_etcdrpc_instance": "b",
			"__meta_etcdrpc_address":  "10.0.0.8:9000",
			"__meta_etcdrpc_layout":   "plain",
			"__meta_etcdrpc_state":    "drained"}},
	}
	if !reflect.DeepEqual(groups, want) {
		t.Errorf("Of returns the groups\n%v\nwant\n%v", groups, want)
	}

	for prefix, want := range map[string]int{"config/": 2, "config/db": 3, "config/db/": 3} {
		if n := len(Of(services, prefix, Port{})); n != want {
			t.Errorf("Of(services, %q) has %d targets, want %d", prefix, n, want)
		}
	}

	if none := Of(nil, "", Port{}); none == nil {
		t.Error("Of(nil) is nil, want an empty list: JSON would be null")
	}
}
