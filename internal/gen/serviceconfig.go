package gen

import (
	"cmp"
	"fmt"
	"reflect"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// serviceConfigOf returns the service config that the options of a service and its methods stand for.
func serviceConfigOf(s *service) *serviceconfig.Config {
	config := &serviceconfig.Config{LoadBalancing: []serviceconfig.Policy{loadBalancing(s)}, Methods: methodConfigs(s)}
	if throttling := s.options.GetRetryThrottling(); throttling != nil {
		config.RetryThrottling = &serviceconfig.RetryThrottling{
			MaxTokens: float64(throttling.GetMaxTokens()), TokenRatio: throttling.GetTokenRatio(),
		}
	}
	if s.options.GetHealthCheck() {
		// By its full name, as gRPC's servers do: "" is the health of the server as a whole.
		config.HealthCheck = &serviceconfig.HealthCheck{ServiceName: string(s.proto.Desc.FullName())}
	}
	return config
}

// checkServiceConfig notes a service config that clients would refuse, though all of the options are right.
func checkServiceConfig(s *service) {
	if _, err := serviceconfig.Parse(serviceConfigOf(s).JSON()); err != nil {
		s.option.problem("gives a service config that clients refuse: %v", err)
	}
}

// methodConfigs returns the method configs of a service. gRPC uses only the one that fits a method best, so the config
// of a method repeats what default_method says.
func methodConfigs(s *service) []serviceconfig.Method {
	var configs []serviceconfig.Method
	service, byDefault := string(s.proto.Desc.FullName()), s.options.GetDefaultMethod()
	if says(byDefault) {
		configs = append(configs, methodConfig(serviceconfig.MethodName{Service: service}, byDefault, byDefault))
	}
	for _, m := range s.methods {
		if !says(m.options) {
			continue
		}
		config := methodConfig(serviceconfig.MethodName{Service: service, Method: string(m.proto.Desc.Name())}, m.options, byDefault)
		configs = append(configs, config)
	}
	return configs
}

// says reports whether options say anything about how calls are made.
func says(options *discoveryv1.MethodOptions) bool {
	return options.GetTimeout() != nil || options.GetWaitForReady() || options.GetRetry() != nil
}

// loadBalancing returns the policy of a service, below the one that decides where it picks, below the one that leaves
// failing endpoints out of that.
func loadBalancing(s *service) serviceconfig.Policy {
	lb := s.options.GetLoadBalancing()
	policy := picking(s)
	if etcd := etcdConfig(lb); etcd != nil {
		etcd.ChildPolicy = []serviceconfig.Policy{policy}
		policy = serviceconfig.Policy{Name: serviceconfig.EtcdName, Config: etcd}
	}
	if detection := lb.GetOutlierDetection(); detection != nil {
		policy = serviceconfig.Policy{Name: serviceconfig.OutlierDetectionName, Config: outlierDetection(detection, policy)}
	}
	return policy
}

// etcdConfig returns the config of the policy that decides which instances a call may go to, nil if any may be called.
func etcdConfig(lb *discoveryv1.LoadBalancing) *serviceconfig.Etcd {
	config := &serviceconfig.Etcd{
		PreferZone:            lb.GetPreferZone(),
		ZoneMinPercent:        lb.GetZoneMinPercent(),
		Subset:                lb.GetSubset(),
		LaneHeader:            lb.GetLaneHeader(),
		MaxConcurrentRequests: lb.GetMaxConcurrentRequests(),
	}
	if start := lb.GetSlowStart(); start != nil {
		config.SlowStart = &serviceconfig.SlowStart{
			Window: serviceconfig.Duration(start.GetWindow().AsDuration()), MinPercent: start.GetMinPercent(),
		}
	}
	for _, r := range lb.GetRoute() {
		config.Route = append(config.Route, routeOf(r))
	}
	if reflect.DeepEqual(config, &serviceconfig.Etcd{}) {
		return nil
	}
	return config
}

func routeOf(r *discoveryv1.Route) serviceconfig.Route {
	return serviceconfig.Route{Lane: r.GetLane(), Match: r.GetMatch(), Label: r.GetLabel(), Strict: r.GetStrict()}
}

// picking returns the policy that picks an endpoint.
func picking(s *service) serviceconfig.Policy {
	switch p := s.options.GetLoadBalancing().GetPolicy().(type) {
	case *discoveryv1.LoadBalancing_PickFirst:
		config := serviceconfig.PickFirst{ShuffleAddressList: p.PickFirst.GetShuffleAddressList()}
		return serviceconfig.Policy{Name: serviceconfig.PickFirstName, Config: &config}
	case *discoveryv1.LoadBalancing_LeastRequest:
		config := serviceconfig.LeastRequest{ChoiceCount: p.LeastRequest.GetChoiceCount()}
		return serviceconfig.Policy{Name: serviceconfig.LeastRequestName, Config: &config}
	case *discoveryv1.LoadBalancing_RingHash:
		return ringHash(p.RingHash)
	case *discoveryv1.LoadBalancing_Weighted:
		return serviceconfig.Policy{Name: serviceconfig.WeightedName, Config: &serviceconfig.Bare{}}
	case *discoveryv1.LoadBalancing_PeakEwma:
		return serviceconfig.Policy{Name: serviceconfig.PeakEwmaName, Config: &serviceconfig.Bare{}}
	case nil:
		if len(s.withAffinity()) > 0 {
			return ringHash(nil)
		}
	}
	return serviceconfig.Policy{Name: serviceconfig.RoundRobinName, Config: &serviceconfig.Bare{}}
}

func ringHash(ring *discoveryv1.RingHash) serviceconfig.Policy {
	config := serviceconfig.RingHash{
		MinRingSize: ring.GetMinRingSize(), MaxRingSize: ring.GetMaxRingSize(), RequestHashHeader: serviceconfig.AffinityHeader,
	}
	return serviceconfig.Policy{Name: serviceconfig.RingHashName, Config: &config}
}

func outlierDetection(detection *discoveryv1.OutlierDetection, child serviceconfig.Policy) *serviceconfig.OutlierDetection {
	config := &serviceconfig.OutlierDetection{
		Interval:           durationOf(detection.GetInterval()),
		BaseEjectionTime:   durationOf(detection.GetBaseEjectionTime()),
		MaxEjectionTime:    durationOf(detection.GetMaxEjectionTime()),
		MaxEjectionPercent: unlessZero(detection.GetMaxEjectionPercent()),
		ChildPolicy:        []serviceconfig.Policy{child},
	}
	if ejection := detection.GetSuccessRateEjection(); ejection != nil {
		config.SuccessRate = &serviceconfig.SuccessRateEjection{
			StdevFactor:           unlessZero(ejection.GetStdevFactor()),
			EnforcementPercentage: unlessZero(ejection.GetEnforcementPercentage()),
			MinimumHosts:          unlessZero(ejection.GetMinimumHosts()),
			RequestVolume:         unlessZero(ejection.GetRequestVolume()),
		}
	}
	if ejection := detection.GetFailurePercentageEjection(); ejection != nil {
		config.FailurePercentage = &serviceconfig.FailureEjection{
			Threshold:             unlessZero(ejection.GetThreshold()),
			EnforcementPercentage: unlessZero(ejection.GetEnforcementPercentage()),
			MinimumHosts:          unlessZero(ejection.GetMinimumHosts()),
			RequestVolume:         unlessZero(ejection.GetRequestVolume()),
		}
	}
	return config
}

// methodConfig returns what options say and, field by field, what they leave to the default.
func methodConfig(name serviceconfig.MethodName, options, byDefault *discoveryv1.MethodOptions) serviceconfig.Method {
	config := serviceconfig.Method{Name: []serviceconfig.MethodName{name}}
	config.Timeout = durationOf(cmp.Or(options.GetTimeout(), byDefault.GetTimeout()))
	config.WaitForReady = unlessZero(options.GetWaitForReady() || byDefault.GetWaitForReady())
	if retry := cmp.Or(options.GetRetry(), byDefault.GetRetry()); retry != nil && !takesRetryBack(retry) {
		config.Retry = retryConfig(retry)
	}
	return config
}

func retryConfig(retry *discoveryv1.Retry) *serviceconfig.Retry {
	config := &serviceconfig.Retry{
		MaxAttempts:       retry.GetMaxAttempts(),
		InitialBackoff:    serviceconfig.Duration(retry.GetInitialBackoff().AsDuration()),
		MaxBackoff:        serviceconfig.Duration(retry.GetMaxBackoff().AsDuration()),
		BackoffMultiplier: retry.GetBackoffMultiplier(),
	}
	for _, code := range retry.GetCodes() {
		config.Codes = append(config.Codes, strings.TrimPrefix(code.String(), "CODE_"))
	}
	return config
}

// unlessZero returns a pointer to the value of a field, nil if it is not set.
func unlessZero[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

// durationOf converts a duration that was checked, nil if it is not set.
func durationOf(d *durationpb.Duration) *serviceconfig.Duration {
	if d == nil {
		return nil
	}
	duration := serviceconfig.Duration(d.AsDuration())
	return &duration
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
