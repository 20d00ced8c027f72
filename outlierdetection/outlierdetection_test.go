package outlierdetection

import (
	"testing"

	"google.golang.org/grpc/balancer"
)

func TestPolicyIsKnown(t *testing.T) {
	policy, ok := balancer.Get("outlier_detection_experimental").(balancer.ConfigParser)
	if !ok {
		t.Fatal("gRPC does not know the policy outlier_detection_experimental, want it registered")
	}

	_, err := policy.ParseConfig([]byte(`{
		"interval": "10s", "baseEjectionTime": "30s", "maxEjectionTime": "300s", "maxEjectionPercent": 10,
		"successRateEjection": {"stdevFactor": 1900, "enforcementPercentage": 100, "minimumHosts": 5, "requestVolume": 100},
		"failurePercentageEjection": {"threshold": 85, "enforcementPercentage": 100, "minimumHosts": 5, "requestVolume": 50},
		"childPolicy": [{"round_robin": {}}]
	}`))
	if err != nil {
		t.Errorf("ParseConfig of a config with every field: %v, want no error", err)
	}

	_, err = policy.ParseConfig([]byte(`{"childPolicy": [{"unknown": {}}]}`))
	if err == nil {
		t.Error("ParseConfig of a config with an unknown policy succeeds, want an error")
	}
}
