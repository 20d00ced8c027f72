package grpccheck

import (
	"encoding/json"
	"fmt"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"
)

func TestLive(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{`{}`, ``},
		{``, `the service config is empty: want a JSON object`},
		{`{"loadBalancingConfig":[{"outlier_detection_experimental":{"childPolicy":[{"round_robin":{}}]}}]}`,
			`the policy "outlier_detection_experimental" is not linked in this binary: import _ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"`},
	} {
		if _, err := Live(tt.text); fmt.Sprint(err) != tt.want && (err != nil || tt.want != "") {
			t.Errorf("Live(%s) = %v, want %s", tt.text, err, tt.want)
		}
	}
}

type panics struct{ balancer.Builder }

func (panics) Name() string { return "panics" }

func (panics) ParseConfig(json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	panic("no")
}

// A policy whose parser panics or fails causes only an error.
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
