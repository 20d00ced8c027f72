package main

import (
	"encoding/json"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"

	ours "github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// init registers a stand-in for gRPC's outlier detection, so that live configs
// that name the policy are accepted. gRPC's own package would add its whole xDS
// client, 9 MB, and no connection of etcdrpc uses the policy.
func init() {
	if balancer.Get(ours.OutlierDetectionName) == nil {
		balancer.Register(outlierDetection{})
	}
}

type outlierDetection struct{ balancer.Builder }

func (outlierDetection) Name() string {
	return ours.OutlierDetectionName
}

// ParseConfig accepts any config, because package serviceconfig has checked the
// fields.
func (outlierDetection) ParseConfig(
	json.RawMessage,
) (serviceconfig.LoadBalancingConfig, error) {
	return struct {
		serviceconfig.LoadBalancingConfig
	}{}, nil
}
