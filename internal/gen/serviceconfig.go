package gen

import (
	"encoding/json"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// affinityHeader is the metadata key under which the runtime sends the affinity of a
// call to the ring_hash policy. It is part of what generated code and the runtime
// have agreed on.
const affinityHeader = "etcd-affinity"

// The parts of gRPC's service config that the options stand for, in the order that
// they are written in.
type (
	serviceConfig struct {
		LoadBalancing []map[string]any `json:"loadBalancingConfig"`
		Methods       []methodConfig   `json:"methodConfig,omitempty"`
	}
	methodConfig struct {
		Name         []methodRef  `json:"name"`
		Timeout      string       `json:"timeout,omitempty"`
		WaitForReady bool         `json:"waitForReady,omitempty"`
		Retry        *retryPolicy `json:"retryPolicy,omitempty"`
	}
	methodRef struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	}
	retryPolicy struct {
		MaxAttempts       uint32   `json:"maxAttempts"`
		InitialBackoff    string   `json:"initialBackoff"`
		MaxBackoff        string   `json:"maxBackoff"`
		BackoffMultiplier float64  `json:"backoffMultiplier"`
		Codes             []string `json:"retryableStatusCodes"`
	}
	pickFirst struct {
		Shuffle bool `json:"shuffleAddressList,omitempty"`
	}
	leastRequest struct {
		ChoiceCount uint32 `json:"choiceCount,omitempty"`
	}
	ringHash struct {
		Min    uint64 `json:"minRingSize,omitempty"`
		Max    uint64 `json:"maxRingSize,omitempty"`
		Header string `json:"requestHashHeader"`
	}
)

// serviceConfigJSON returns gRPC's service config for what the options of a service
// and its methods say.
func serviceConfigJSON(s *service) string {
	config := serviceConfig{LoadBalancing: []map[string]any{loadBalancing(s)}}
	for _, m := range s.methods {
		if c := configOf(s, m); c.Timeout != "" || c.WaitForReady || c.Retry != nil {
			config.Methods = append(config.Methods, c)
		}
	}
	text, err := json.Marshal(config)
	if err != nil {
		panic(err) // cannot be: every value is plain, and checked to be a number
	}
	return string(text)
}

// loadBalancing returns the policy and its config.
func loadBalancing(s *service) map[string]any {
	lb := s.options.GetLoadBalancing()
	switch policy := lb.GetPolicy().(type) {
	case *discoveryv1.LoadBalancing_PickFirst:
		return map[string]any{"pick_first": pickFirst{policy.PickFirst.GetShuffleAddressList()}}
	case *discoveryv1.LoadBalancing_LeastRequest:
		return map[string]any{"least_request_experimental": leastRequest{policy.LeastRequest.GetChoiceCount()}}
	case *discoveryv1.LoadBalancing_RingHash:
		return map[string]any{"ring_hash_experimental": ringHash{
			Min: policy.RingHash.GetMinRingSize(), Max: policy.RingHash.GetMaxRingSize(), Header: affinityHeader,
		}}
	default:
		return map[string]any{"round_robin": struct{}{}}
	}
}

func configOf(s *service, m *method) methodConfig {
	config := methodConfig{
		Name:         []methodRef{{Service: string(s.proto.Desc.FullName()), Method: string(m.proto.Desc.Name())}},
		Timeout:      durationJSON(m.options.GetTimeout()),
		WaitForReady: m.options.GetWaitForReady(),
	}
	if retry := m.options.GetRetry(); retry != nil {
		config.Retry = &retryPolicy{
			MaxAttempts:       retry.GetMaxAttempts(),
			InitialBackoff:    durationJSON(retry.GetInitialBackoff()),
			MaxBackoff:        durationJSON(retry.GetMaxBackoff()),
			BackoffMultiplier: retry.GetBackoffMultiplier(),
		}
		for _, code := range retry.GetCodes() {
			config.Retry.Codes = append(config.Retry.Codes, strings.TrimPrefix(code.String(), "CODE_"))
		}
	}
	return config
}

// durationJSON writes a duration as protobuf's JSON does: "1.500s". It is "" for none.
func durationJSON(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	text, err := protojson.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("a duration that was checked: %v", err))
	}
	return strings.Trim(string(text), `"`)
}
