package gen

import (
	"cmp"
	"fmt"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkLoadBalancing notes what gRPC would refuse or ignore.
func checkLoadBalancing(s *service) {
	at, lb := s.option.in("load_balancing"), s.options.GetLoadBalancing()
	if policy := lb.GetLeastRequest(); policy != nil {
		checkChoiceCount(at.in("least_request").in("choice_count"), policy.GetChoiceCount())
	}
	if policy := lb.GetRingHash(); policy != nil {
		checkRingSizes(at.in("ring_hash"), policy)
	}
	if detection := lb.GetOutlierDetection(); detection != nil {
		checkOutlierDetection(at.in("outlier_detection"), detection, lb.GetPickFirst() != nil)
	}
	checkPercent(at, "zone_min_percent", lb.GetZoneMinPercent())
	if n := lb.GetSubset(); n > serviceconfig.MaxSubset {
		at.in("subset").problem("is %d: give it at most %d", n, serviceconfig.MaxSubset)
	}
	if start := lb.GetSlowStart(); start != nil {
		checkSlowStart(at.in("slow_start"), start)
	}
	checkRoutes(at, lb)
	checkEffects(at, lb, picking(s).Name)
}

func checkSlowStart(at position, start *discoveryv1.SlowStart) {
	checkPercent(at, "min_percent", start.GetMinPercent())
	window := start.GetWindow()
	if window == nil {
		missingIn(start, "a slow start")(at.in("window"), fmt.Sprintf("from %v to %v", serviceconfig.MinSlowStart, serviceconfig.MaxSlowStart))
		return
	}
	if !isDuration(at.in("window"), window) {
		return
	}
	if d := serviceconfig.Duration(window.AsDuration()); d < serviceconfig.MinSlowStart || d > serviceconfig.MaxSlowStart {
		at.in("window").problem("is %s: give it %v to %v", durationJSON(window), serviceconfig.MinSlowStart, serviceconfig.MaxSlowStart)
	}
}

func checkRoutes(at position, lb *discoveryv1.LoadBalancing) {
	for i, r := range lb.GetRoute() {
		route := routeOf(r)
		if field, err := route.Check(); err != nil && complete(r) {
			at.in("route").index(i).in(protoreflect.Name(field)).problem("%v", err)
		}
	}
	if header := lb.GetLaneHeader(); header != "" && !serviceconfig.ValidHeader(header) {
		at.in("lane_header").problem("is %.60q: give it %s, in lower case", header, serviceconfig.WantHeader)
	}
}

// checkEffects notes options that would have no effect beside the others. policy is the one that picks.
func checkEffects(at position, lb *discoveryv1.LoadBalancing, policy string) {
	beside := func(field protoreflect.Name) {
		at.in(field).problem("has no effect beside %s: leave one of them out", cmp.Or(string(policyName(lb)), "an affinity"))
	}
	if lb.GetZoneMinPercent() > 0 && !lb.GetPreferZone() {
		at.in("zone_min_percent").problem("has no effect without prefer_zone: set that too")
	} else if lb.GetZoneMinPercent() > 0 && !serviceconfig.Spills(policy) {
		beside("zone_min_percent")
	}
	if lb.GetSlowStart() != nil && !serviceconfig.StartsSlowly(policy) {
		beside("slow_start")
	}
	if lb.GetMaxConcurrentRequests() > 0 && !serviceconfig.Bounds(policy) {
		beside("max_concurrent_requests")
	}
	if lb.GetLaneHeader() != "" && len(lb.GetRoute()) == 0 {
		at.in("lane_header").problem("has no effect without route: set that too")
	}
}

func checkChoiceCount(at position, n uint32) {
	if n != 0 && (n < serviceconfig.MinChoiceCount || n > serviceconfig.MaxChoiceCount) {
		at.problem("is %d: give it %d to %d, or leave it out for %d", n, serviceconfig.MinChoiceCount, serviceconfig.MaxChoiceCount, serviceconfig.MinChoiceCount)
	}
}

func checkRingSizes(at position, policy *discoveryv1.RingHash) {
	least, most := policy.GetMinRingSize(), policy.GetMaxRingSize()
	inBounds := checkRingSize(at.in("min_ring_size"), least)
	inBounds = checkRingSize(at.in("max_ring_size"), most) && inBounds
	switch {
	case !inBounds:
	case least != 0 && most != 0 && least > most:
		at.in("min_ring_size").problem("is %d, above max_ring_size, which is %d: give it at most that", least, most)
	case least != 0 && most == 0 && least > serviceconfig.DefaultMaxRingSize:
		at.in("min_ring_size").problem("is %d, above max_ring_size, which is %d by default: set that too", least, serviceconfig.DefaultMaxRingSize)
	case least == 0 && most != 0 && most < serviceconfig.DefaultMinRingSize:
		at.in("max_ring_size").problem("is %d, below min_ring_size, which is %d by default: set that too", most, serviceconfig.DefaultMinRingSize)
	}
}

func checkRingSize(at position, size uint64) bool {
	if size > serviceconfig.MaxRingSize {
		at.problem("is %d: give it at most %d", size, serviceconfig.MaxRingSize)
		return false
	}
	return true
}

// checkOutlierDetection notes what is wrong with its fields and, where nothing is,
// that it would do nothing.
func checkOutlierDetection(at position, detection *discoveryv1.OutlierDetection, pickFirst bool) {
	before := len(at.problems.list)
	checkEjectionTimes(at, detection)
	checkPercent(at, "max_ejection_percent", detection.GetMaxEjectionPercent())
	if ejection := detection.GetSuccessRateEjection(); ejection != nil {
		checkPercent(at.in("success_rate_ejection"), "enforcement_percentage", ejection.GetEnforcementPercentage())
	}
	if ejection := detection.GetFailurePercentageEjection(); ejection != nil {
		checkPercent(at.in("failure_percentage_ejection"), "threshold", ejection.GetThreshold())
		checkEnforced(at.in("failure_percentage_ejection").in("enforcement_percentage"), ejection)
	}
	switch {
	case len(at.problems.list) > before || !complete(detection):
	case pickFirst:
		at.problem("has no effect beside pick_first: leave one of them out")
	case detection.GetSuccessRateEjection() == nil && detection.GetFailurePercentageEjection() == nil:
		at.problem("has no effect: set success_rate_ejection or failure_percentage_ejection")
	}
}

// checkEnforced notes an ejection that gRPC would never carry out: it is the only percentage that is 0 where it is
// left out.
func checkEnforced(at position, ejection *discoveryv1.FailurePercentageEjection) {
	switch percent := ejection.GetEnforcementPercentage(); {
	case percent > serviceconfig.MaxPercent:
		at.problem("is %d: it is in percent, give it at most %d", percent, serviceconfig.MaxPercent)
	case percent == 0 && complete(ejection):
		at.problem("is 0 or left out, so that no endpoint is ever left out: give it 1 to %d", serviceconfig.MaxPercent)
	}
}

func checkEjectionTimes(at position, detection *discoveryv1.OutlierDetection) {
	checkInterval(at.in("interval"), detection.GetInterval())
	base, longest := detection.GetBaseEjectionTime(), detection.GetMaxEjectionTime()
	baseOK := checkNotNegative(at.in("base_ejection_time"), base)
	if !checkNotNegative(at.in("max_ejection_time"), longest) || !baseOK || longest == nil {
		return
	}
	least, byDefault := serviceconfig.DefaultBaseEjection, " by default: set that too"
	if base != nil {
		least, byDefault = serviceconfig.Duration(base.AsDuration()), ": give it at least that"
	}
	if serviceconfig.Duration(longest.AsDuration()) < least {
		at.in("max_ejection_time").problem("is %s, below base_ejection_time, which is %v%s", durationJSON(longest), least, byDefault)
	}
}

// checkInterval notes an interval that would cost more than it is worth.
func checkInterval(at position, interval *durationpb.Duration) {
	if interval != nil && checkPositive(at, interval) && serviceconfig.Duration(interval.AsDuration()) < serviceconfig.MinInterval {
		at.problem("is %s: give it at least %v, for each interval goes through all endpoints", durationJSON(interval), serviceconfig.MinInterval)
	}
}

func checkNotNegative(at position, d *durationpb.Duration) bool {
	if !isDuration(at, d) {
		return false
	}
	if d.AsDuration() < 0 {
		at.problem("is %s: it must not be negative", durationJSON(d))
		return false
	}
	return checkNotTooLong(at, d)
}

func checkPercent(at position, field protoreflect.Name, percent uint32) {
	if percent > serviceconfig.MaxPercent {
		at.in(field).problem("is %d: it is in percent, give it at most %d", percent, serviceconfig.MaxPercent)
	}
}
