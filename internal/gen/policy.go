package gen

import (
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkLoadBalancing reports values that gRPC would reject or ignore.
func checkLoadBalancing(s *service) {
	loadBalancing(s)
	lb := s.options.GetLoadBalancing()
	// In a live config, gRPC's parser accepts any case.
	if header := strings.ToLower(lb.GetLaneHeader()); header != lb.GetLaneHeader() && serviceconfig.ValidHeader(header) {
		s.option.in("load_balancing").in("lane_header").problem("is %q: give it %s, in lower case", lb.GetLaneHeader(), serviceconfig.WantHeader)
	}
	if detection := lb.GetOutlierDetection(); detection != nil {
		checkEjections(s.option.in("load_balancing").in("outlier_detection"), detection, lb.GetPickFirst() != nil)
	}
}

// checkEjections reports an outlier detection without effect.
func checkEjections(at position, detection *discoveryv1.OutlierDetection, pickFirst bool) {
	// This percentage alone is 0 if it is not set.
	if ejection := detection.GetFailurePercentageEjection(); ejection != nil && ejection.GetEnforcementPercentage() == 0 && complete(ejection) {
		at.in("failure_percentage_ejection").in("enforcement_percentage").problem(
			"is 0 or left out, so that no endpoint is ever left out: give it 1 to 100")
	}
	switch {
	case !complete(detection):
	case pickFirst:
		at.problem("has no effect beside pick_first: leave one of them out")
	case detection.GetSuccessRateEjection() == nil && detection.GetFailurePercentageEjection() == nil:
		at.problem("has no effect: set success_rate_ejection or failure_percentage_ejection")
	}
}
