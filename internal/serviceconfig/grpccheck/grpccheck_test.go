package grpccheck

import (
	"encoding/json"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"
)

type panics struct{ balancer.Builder }

func (panics) Name() string {
	return "panics"
}

func (panics) ParseConfig(json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	panic("no")
}

// A policy whose parser panics causes only an error, and so does an unknown
// policy.
func TestLive_ReportsParserPanics(t *testing.T) {
	balancer.Register(panics{})

	for text, want := range map[string]string{
		`{"loadBalancingConfig":[{"panics":{}}]}`: `gRPC panics at the service config: no`,
		`{"loadBalancingConfig":[{"nope":{}}]}`: `gRPC refuses the service config: grpc: the provided default service config is invalid: ` +
			`no supported policies found in config: [{"nope":{}}]`,
	} {
		if err := parse(text); err == nil || err.Error() != want {
			t.Errorf("parse(%s) = %v, want %s", text, err, want)
		}
	}
}
