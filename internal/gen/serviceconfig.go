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
		LoadBalancing []policy       `json:"loadBalancingConfig"`
		Methods       []methodConfig `json:"methodConfig,omitempty"`
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
	policy    map[string]any // its config, by its name alone
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
	outlierDetection struct {
		Interval           string               `json:"interval,omitempty"`
		BaseEjectionTime   string               `json:"baseEjectionTime,omitempty"`
		MaxEjectionTime    string               `json:"maxEjectionTime,omitempty"`
		MaxEjectionPercent uint32               `json:"maxEjectionPercent,omitempty"`
		SuccessRate        *successRateEjection `json:"successRateEjection,omitempty"`
		FailurePercentage  *failureEjection     `json:"failurePercentageEjection,omitempty"`
		ChildPolicy        []policy             `json:"childPolicy"`
	}
	successRateEjection struct {
		StdevFactor           uint32 `json:"stdevFactor,omitempty"`
		EnforcementPercentage uint32 `json:"enforcementPercentage,omitempty"`
		MinimumHosts          uint32 `json:"minimumHosts,omitempty"`
		RequestVolume         uint32 `json:"requestVolume,omitempty"`
	}
	failureEjection struct {
		Threshold             uint32 `json:"threshold,omitempty"`
		EnforcementPercentage uint32 `json:"enforcementPercentage,omitempty"`
		MinimumHosts          uint32 `json:"minimumHosts,omitempty"`
		RequestVolume         uint32 `json:"requestVolume,omitempty"`
	}
	zones struct {
		PreferZone  bool     `json:"preferZone"`
		ChildPolicy []policy `json:"childPolicy"`
	}
)

// serviceConfigJSON returns gRPC's service config for what the options of a service
// and its methods say.
func serviceConfigJSON(s *service) string {
	config := serviceConfig{LoadBalancing: []policy{loadBalancing(s)}}
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

// loadBalancing returns the policy of a service, within those that leave endpoints
// out before it picks.
func loadBalancing(s *service) policy {
	lb := s.options.GetLoadBalancing()
	config := picking(s)
	if detection := lb.GetOutlierDetection(); detection != nil {
		config = policy{"outlier_detection_experimental": outlierDetectionOf(detection, config)}
	}
	if lb.GetPreferZone() {
		config = policy{"etcd": zones{PreferZone: true, ChildPolicy: []policy{config}}}
	}
	return config
}

// picking returns the policy that picks an endpoint.
func picking(s *service) policy {
	switch p := s.options.GetLoadBalancing().GetPolicy().(type) {
	case *discoveryv1.LoadBalancing_PickFirst:
		return policy{"pick_first": pickFirst{p.PickFirst.GetShuffleAddressList()}}
	case *discoveryv1.LoadBalancing_LeastRequest:
		return policy{"least_request_experimental": leastRequest{p.LeastRequest.GetChoiceCount()}}
	case *discoveryv1.LoadBalancing_RingHash:
		return policy{"ring_hash_experimental": ringHashOf(p.RingHash)}
	case *discoveryv1.LoadBalancing_Weighted:
		return policy{"etcd_weighted": struct{}{}}
	case nil:
		if len(s.withAffinity()) > 0 {
			return policy{"ring_hash_experimental": ringHashOf(nil)}
		}
	}
	return policy{"round_robin": struct{}{}}
}

func ringHashOf(ring *discoveryv1.RingHash) ringHash {
	return ringHash{Min: ring.GetMinRingSize(), Max: ring.GetMaxRingSize(), Header: affinityHeader}
}

func outlierDetectionOf(detection *discoveryv1.OutlierDetection, child policy) outlierDetection {
	config := outlierDetection{
		Interval:           durationJSON(detection.GetInterval()),
		BaseEjectionTime:   durationJSON(detection.GetBaseEjectionTime()),
		MaxEjectionTime:    durationJSON(detection.GetMaxEjectionTime()),
		MaxEjectionPercent: detection.GetMaxEjectionPercent(),
		ChildPolicy:        []policy{child},
	}
	if ejection := detection.GetSuccessRateEjection(); ejection != nil {
		config.SuccessRate = &successRateEjection{
			StdevFactor:           ejection.GetStdevFactor(),
			EnforcementPercentage: ejection.GetEnforcementPercentage(),
			MinimumHosts:          ejection.GetMinimumHosts(),
			RequestVolume:         ejection.GetRequestVolume(),
		}
	}
	if ejection := detection.GetFailurePercentageEjection(); ejection != nil {
		config.FailurePercentage = &failureEjection{
			Threshold:             ejection.GetThreshold(),
			EnforcementPercentage: ejection.GetEnforcementPercentage(),
			MinimumHosts:          ejection.GetMinimumHosts(),
			RequestVolume:         ejection.GetRequestVolume(),
		}
	}
	return config
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
