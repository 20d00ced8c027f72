package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/serviceconfig"
)

// gRPC's outlier detection comes with its support for xDS alone, which is larger than the rest of this
// command. Here it is only to be checked, so this stands in for it.
func init() { balancer.Register(outlierDetection{}) }

type outlierDetection struct{}

func (outlierDetection) Name() string { return "outlier_detection_experimental" }

// Build is never called, for this command connects to no service.
func (o outlierDetection) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	refuse := base.NewBalancerBuilder(o.Name(), nil, base.Config{})
	return refuse.Build(cc, opts)
}

type outlierConfig struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	Interval            *duration `json:"interval"`
	BaseEjectionTime    *duration `json:"baseEjectionTime"`
	MaxEjectionTime     *duration `json:"maxEjectionTime"`
	MaxEjectionPercent  *percent  `json:"maxEjectionPercent"`
	SuccessRateEjection *struct {
		StdevFactor           *uint32  `json:"stdevFactor"`
		EnforcementPercentage *percent `json:"enforcementPercentage"`
		MinimumHosts          *uint32  `json:"minimumHosts"`
		RequestVolume         *uint32  `json:"requestVolume"`
	} `json:"successRateEjection"`
	FailurePercentageEjection *struct {
		Threshold             *percent `json:"threshold"`
		EnforcementPercentage *percent `json:"enforcementPercentage"`
		MinimumHosts          *uint32  `json:"minimumHosts"`
		RequestVolume         *uint32  `json:"requestVolume"`
	} `json:"failurePercentageEjection"`
	ChildPolicy []map[string]json.RawMessage `json:"childPolicy"`
}

// ParseConfig refuses what gRPC's would, and the fields that it would ignore. The policies below are
// checked with all others.
func (outlierDetection) ParseConfig(text json.RawMessage) (serviceconfig.LoadBalancingConfig, error) {
	var c outlierConfig
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&c); err != nil {
		return nil, err
	}
	if len(c.ChildPolicy) == 0 {
		return nil, errors.New("childPolicy is missing")
	}
	return &c, nil
}

// duration is a protobuf Duration in JSON that is not negative.
type duration struct{}

var durationText = regexp.MustCompile(`^"[0-9]+(\.[0-9]{1,9})?s"$`)

func (*duration) UnmarshalJSON(text []byte) error {
	if !durationText.Match(text) {
		return fmt.Errorf(`%s is no duration: want seconds such as "1.5s"`, text)
	}
	return nil
}

// percent is a whole number from 0 to 100.
type percent struct{}

func (*percent) UnmarshalJSON(text []byte) error {
	var n uint32
	if err := json.Unmarshal(text, &n); err != nil || n > 100 {
		return fmt.Errorf("%s is no percentage: want a whole number from 0 to 100", text)
	}
	return nil
}
