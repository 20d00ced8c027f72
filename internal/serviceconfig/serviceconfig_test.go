package serviceconfig

import (
	"strings"
	"testing"

	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
)

func TestMerge(t *testing.T) {
	tests := []struct {
		name    string
		configs []string
		want    string
	}{
		{"nothing", nil, `{}`},
		{"empty layers", []string{"", "{}", ""}, `{}`},
		{"field by field", []string{
			`{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[{"name":[{}]}]}`,
			`{"methodConfig":[]}`,
		}, `{"loadBalancingConfig":[{"round_robin":{}}],"methodConfig":[]}`},
		{"a policy by name replaces a policy by config", []string{
			`{"loadBalancingConfig":[{"round_robin":{}}]}`, `{"loadBalancingPolicy":"pick_first"}`,
		}, `{"loadBalancingPolicy":"pick_first"}`},
	}
	for _, tt := range tests {
		if got, err := Merge(tt.configs...); err != nil || got != tt.want {
			t.Errorf("%s: Merge = %s, %v, want %s", tt.name, got, err, tt.want)
		}
	}
	for _, bad := range []string{"null", "[]", "{", `"x"`} {
		if got, err := Merge("{}", bad); err == nil {
			t.Errorf("Merge({}, %s) = %s, want an error", bad, got)
		}
	}
}

func TestWrap(t *testing.T) {
	tests := []struct{ in, want string }{
		{"", `{"loadBalancingConfig":[{"p":{"childPolicy":[{"round_robin":{}}]}}]}`},
		{`{"loadBalancingConfig":[]}`, `{"loadBalancingConfig":[{"p":{"childPolicy":[{"round_robin":{}}]}}]}`},
		{`{"loadBalancingPolicy":"pick_first"}`, `{"loadBalancingConfig":[{"p":{"childPolicy":[{"pick_first":{}}]}}]}`},
		{`{"loadBalancingConfig":[{"a":{"x":1}},{"b":{}}]}`, `{"loadBalancingConfig":[{"p":{"childPolicy":[{"a":{"x":1}},{"b":{}}]}}]}`},
		{`{"loadBalancingConfig":[{"p":{"x":1}}]}`, `{"loadBalancingConfig":[{"p":{"x":1}}]}`},
	}
	for _, tt := range tests {
		if got, err := Wrap(tt.in, "p"); err != nil || got != tt.want {
			t.Errorf("Wrap(%s) = %s, %v, want %s", tt.in, got, err, tt.want)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, good := range []string{
		`{}`,
		`{"loadBalancingConfig":[{"ring_hash_experimental":{"requestHashHeader":"h"}}]}`,
		`{"methodConfig":[{"name":[{"service":"a.B"}],"timeout":"0.5s","waitForReady":true}]}`,
		`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.1s","maxBackoff":"1s",
			"backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","CANCELLED",14]}}]}`,
		`{"healthCheckConfig":{"serviceName":""},"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`,
	} {
		if err := Check(good); err != nil {
			t.Errorf("Check(%s): %v", good, err)
		}
	}
	retry := func(field, value string) string {
		fields := map[string]string{"maxAttempts": "3", "initialBackoff": `"1s"`, "maxBackoff": `"1s"`,
			"backoffMultiplier": "2", "retryableStatusCodes": `["UNAVAILABLE"]`}
		fields[field] = value
		var parts []string
		for name, v := range fields {
			parts = append(parts, `"`+name+`":`+v)
		}
		return `{"methodConfig":[{"name":[{}],"retryPolicy":{` + strings.Join(parts, ",") + `}}]}`
	}
	for _, tt := range []struct{ config, want string }{
		{`null`, "null"},
		{`[]`, "JSON object"},
		{`{"loadBalancing":[]}`, "does not know"},
		{`{"LoadBalancingConfig":[{"round_robin":{}}]}`, "LoadBalancingConfig"},
		{`{"loadBalancingConfig":[{"grpclb":{}}]}`, "not supported"},
		{`{"loadBalancingPolicy":"nope"}`, `no policy is named "nope"`},
		{`{"loadBalancingConfig":[{"nope":{}}]}`, `no policy is named "nope"`},
		{`{"loadBalancingConfig":[{"outlier_detection_experimental":{}}]}`, "protoc-gen-go-etcd/outlierdetection"},
		{`{"loadBalancingConfig":[{"round_robin":{"x":1}}]}`, `unknown field "x"`},
		{`{"loadBalancingConfig":[{}]}`, "exactly one field"},
		{`{"methodConfig":[{"timeout":"1s"}]}`, "no name"},
		{`{"methodConfig":[{"name":[{"method":"M"}]}]}`, "without its service"},
		{`{"methodConfig":[{"name":[{}],"timeout":"-1s"}]}`, "more than 0"},
		{`{"methodConfig":[{"name":[{}],"timeout":"0s"}]}`, "more than 0"},
		{`{"methodConfig":[{"name":[{}],"timeout":"1m"}]}`, "no duration"},
		{`{"methodConfig":[{"name":[{}],"hedgingPolicy":{}}]}`, "unknown field"},
		{`{"methodConfig":[{"name":[{"service":"a"}]},{"name":[{"service":"a"}]}]}`, "gRPC refuses"},
		{retry("maxAttempts", "1"), "2 to 5"},
		{retry("maxAttempts", "6"), "2 to 5"},
		{retry("initialBackoff", `"2s"`), "longer than maxBackoff"},
		{retry("initialBackoff", `"0s"`), "more than 0"},
		{retry("backoffMultiplier", "0"), "more than 0"},
		{retry("retryableStatusCodes", "[]"), "empty"},
		{retry("retryableStatusCodes", `["NOPE"]`), "gRPC refuses"},
	} {
		if err := Check(tt.config); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("Check(%s) = %v, want an error with %q", tt.config, err, tt.want)
		}
	}
}
