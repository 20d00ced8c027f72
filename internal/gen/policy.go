package gen

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// gRPC's bounds. It refuses what is beyond them, or brings it back without a word.
const (
	minChoiceCount     = 2
	maxChoiceCount     = 10
	defaultMinRingSize = 1024
	defaultMaxRingSize = 4096
	maxRingSize        = 8 * 1024 * 1024
)

// checkLoadBalancing notes what gRPC would refuse or ignore.
func checkLoadBalancing(at spot, lb *discoveryv1.LoadBalancing) {
	if policy := lb.GetLeastRequest(); policy != nil {
		checkChoiceCount(at.in("least_request").in("choice_count"), policy.GetChoiceCount())
	}
	if policy := lb.GetRingHash(); policy != nil {
		checkRingSizes(at.in("ring_hash"), policy)
	}
	if detection := lb.GetOutlierDetection(); detection != nil {
		checkOutlierDetection(at.in("outlier_detection"), detection, lb.GetPickFirst() != nil)
	}
}

func checkChoiceCount(at spot, n uint32) {
	if n != 0 && (n < minChoiceCount || n > maxChoiceCount) {
		at.problem("is %d: give it %d to %d, or leave it out for %d", n, minChoiceCount, maxChoiceCount, minChoiceCount)
	}
}

func checkRingSizes(at spot, policy *discoveryv1.RingHash) {
	least, most := policy.GetMinRingSize(), policy.GetMaxRingSize()
	inBounds := checkRingSize(at.in("min_ring_size"), least)
	inBounds = checkRingSize(at.in("max_ring_size"), most) && inBounds
	switch {
	case !inBounds:
	case least != 0 && most != 0 && least > most:
		at.in("min_ring_size").problem("is %d, above max_ring_size, which is %d: give it at most that", least, most)
	case least != 0 && most == 0 && least > defaultMaxRingSize:
		at.in("min_ring_size").problem("is %d, above max_ring_size, which is %d by default: set that too", least, defaultMaxRingSize)
	case least == 0 && most != 0 && most < defaultMinRingSize:
		at.in("max_ring_size").problem("is %d, below min_ring_size, which is %d by default: set that too", most, defaultMinRingSize)
	}
}

func checkRingSize(at spot, size uint64) bool {
	if size > maxRingSize {
		at.problem("is %d: give it at most %d", size, maxRingSize)
		return false
	}
	return true
}

// checkOutlierDetection notes what is wrong with its fields and, where nothing is,
// that it would do nothing.
func checkOutlierDetection(at spot, detection *discoveryv1.OutlierDetection, pickFirst bool) {
	before := len(at.problems.list)
	checkEjectionTimes(at, detection)
	checkPercent(at, "max_ejection_percent", detection.GetMaxEjectionPercent())
	if ejection := detection.GetSuccessRateEjection(); ejection != nil {
		checkPercent(at.in("success_rate_ejection"), "enforcement_percentage", ejection.GetEnforcementPercentage())
	}
	if ejection := detection.GetFailurePercentageEjection(); ejection != nil {
		checkPercent(at.in("failure_percentage_ejection"), "threshold", ejection.GetThreshold())
		checkPercent(at.in("failure_percentage_ejection"), "enforcement_percentage", ejection.GetEnforcementPercentage())
	}
	switch {
	case len(at.problems.list) > before || !complete(detection):
	case pickFirst:
		at.problem("has no effect beside pick_first: leave one of them out")
	case detection.GetSuccessRateEjection() == nil && detection.GetFailurePercentageEjection() == nil:
		at.problem("has no effect: set success_rate_ejection or failure_percentage_ejection")
	}
}

func checkEjectionTimes(at spot, detection *discoveryv1.OutlierDetection) {
	if interval := detection.GetInterval(); interval != nil {
		checkPositive(at.in("interval"), interval)
	}
	baseRight := checkNotNegative(at.in("base_ejection_time"), detection.GetBaseEjectionTime())
	longest := detection.GetMaxEjectionTime()
	if !checkNotNegative(at.in("max_ejection_time"), longest) || !baseRight || longest == nil || detection.GetBaseEjectionTime() == nil {
		return
	}
	if base := detection.GetBaseEjectionTime(); longest.AsDuration() < base.AsDuration() {
		at.in("max_ejection_time").problem("is %s, below base_ejection_time, which is %s: give it at least that", durationJSON(longest), durationJSON(base))
	}
}

func checkNotNegative(at spot, d *durationpb.Duration) bool {
	if !isDuration(at, d) {
		return false
	}
	if d.AsDuration() < 0 {
		at.problem("is %s: it must not be negative", durationJSON(d))
		return false
	}
	return true
}

func checkPercent(at spot, field protoreflect.Name, percent uint32) {
	if percent > 100 {
		at.in(field).problem("is %d: it is in percent, give it at most 100", percent)
	}
}
