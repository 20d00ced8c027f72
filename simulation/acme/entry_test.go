package acme

import (
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

func TestDecode(t *testing.T) {
	full := Said{Addr: "10.2.0.1:9000", Version: "v1", Zone: "east", Methods: "acme.Shop/Who", Weight: 3}
	bare := Said{Addr: "10.2.0.1:9000"}
	plain := Said{Addr: "10.2.0.1:9000", Weight: 1}
	for name, test := range map[string]struct {
		layout, value string
		want          Said
	}{
		"plain":   {"plain", `10.2.0.1:9000`, bare},
		"go_zero": {schedule.GoZero, `10.2.0.1:9000`, bare},
		"endpoint": {
			schedule.EndpointJSON,
			`{"Op":0,"Addr":"10.2.0.1:9000","Metadata":{"grpc_methods":"acme.Shop/Who","version":"v1","weight":3,"zone":"east"}}`, full,
		},
		"an endpoint without metadata": {schedule.EndpointJSON, `{"Op":0,"Addr":"10.2.0.1:9000"}`, plain},
		"an endpoint that leaves":      {schedule.EndpointJSON, `{"Addr":"10.2.0.1:9000","Metadata":{"grpc_leaving":"true"}}`, Said{}},
		"kratos": {
			"kratos",
			`{"id":"a","name":"shop","version":"v1","metadata":{"zone":"east","weight":"3","grpc_methods":"acme.Shop/Who"},` +
				`"endpoints":["grpc://10.2.0.1:9000","grpcs://10.2.0.1:9000"]}`, full,
		},
		"kitex": {
			"kitex",
			`{"network":"tcp","address":"10.2.0.1:9000","weight":3,"tags":{"version":"v1","zone":"east","grpc_methods":"acme.Shop/Who"}}`, full,
		},
		"another layout": {schedule.EndpointJSON, `10.2.0.1:9000`, Said{}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Decode(test.layout, test.value); got != test.want {
				t.Errorf("%s says %+v, want %+v", test.value, got, test.want)
			}
		})
	}
}
