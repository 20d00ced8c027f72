package gen

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/servicekey"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// checkOptions reports problems of the options in the files to generate. Checks
// across services include imported files, whose own problems are reported when
// those files are generated.
func checkOptions(files []*protogen.File, services map[*protogen.File][]*service) {
	var keyed []*service // services with keys that are valid by themselves
	for _, file := range files {
		for _, s := range services[file] {
			valid := servicekey.Check(s.options.GetKey()) == nil
			if s.file.Generate {
				valid = checkService(s)
			}

			if valid {
				keyed = append(keyed, s)
			}
		}
	}

	checkKeys(keyed)
	checkTLSNames(keyed)
}

// checkServiceConfigs returns the problems that all checks have found, nil if
// there are none. If the earlier checks found none, it also checks that clients
// would accept the service configs.
func checkServiceConfigs(
	files []*protogen.File,
	services map[*protogen.File][]*service,
	problems *problems,
) error {
	if err := problems.err(files); err != nil {
		return err
	}

	for _, file := range files {
		for _, s := range services[file] {
			if !file.Generate {
				continue
			}

			if _, err := serviceconfig.Parse(s.config.JSON()); err != nil {
				s.option.problem("gives a service config that clients refuse: %v", err)
			}
		}
	}

	return problems.err(files)
}

// checkService builds the service config for the options of one service. It
// reports problems of the options, and returns whether the key is valid.
func checkService(s *service) (keyOK bool) {
	s.newer = checkNewer(s.option, s.options.ProtoReflect())
	keyOK = checkKey(s)
	checkAuthority(s, keyOK)
	checkJSONLayout(s)
	checkLeaseTTL(s)

	s.config.LoadBalancing = []serviceconfig.Policy{loadBalancing(s)}
	checkLoadBalancing(s)

	byDefault := checkDefaultMethod(s)

	s.config.RetryThrottling = s.throttling()
	checkTokenRatio(s)

	s.config.HealthCheck = healthCheck(s)
	if s.config.HealthCheck != nil && s.options.GetLoadBalancing().GetPickFirst() != nil {
		s.option.in("health_check").problem(
			"has no effect with pick_first: leave one of them out")
	}

	for _, m := range s.methods {
		s.newer = checkNewer(m.option, m.options.ProtoReflect()) || s.newer
		s.addMethodConfig(m, byDefault)
		checkAffinity(m, s.options.GetLoadBalancing())
	}

	checkLeader(s)

	return keyOK
}

func checkLeaseTTL(s *service) {
	at := s.option.in("lease_ttl")
	ttl := s.options.GetLeaseTtl()
	if isDuration(at, ttl) && !validTTL(ttl) {
		at.problem("is %s: give it whole seconds, from 1s to 24h (86400s)",
			durationJSON(ttl))
	}
}

// checkTokenRatio reports a token_ratio with more than three decimals. gRPC's
// specification lets clients ignore the others.
func checkTokenRatio(s *service) {
	ratio := s.options.GetRetryThrottling().GetTokenRatio()
	text := strconv.FormatFloat(ratio, 'f', -1, 64)

	_, decimals, _ := strings.Cut(text, ".")
	if len(decimals) > 3 {
		s.option.in("retry_throttling").in("token_ratio").problem(
			"is %s: give it at most three decimals, more may be ignored", text)
	}
}

// checkDefaultMethod returns the config of default_method. If default_method
// configures anything, the config is also added to the service's config.
func checkDefaultMethod(s *service) (config serviceconfig.Method) {
	options := s.options.GetDefaultMethod()
	if options == nil {
		return config
	}

	at := s.option.in("default_method")
	config = s.methodConfig(at, "", options)

	if configures(options) {
		s.config.Methods = append(s.config.Methods, config)
	}

	if options.GetAffinity() != "" {
		at.in("affinity").problem("belongs to one method, because it names a field of its request: leave it out here")
	}

	return config
}

func checkJSONLayout(s *service) {
	layout := s.options.GetJsonLayout()
	if layout == nil {
		return
	}

	at := s.option.in("json_layout")
	if s.options.GetLayout() != discoveryv1.Layout_LAYOUT_UNSPECIFIED {
		at.problem("is set together with layout: a service has one layout, leave one of them out")
	}

	if err := s.jsonLayout().Check(); err != nil && complete(layout) {
		at.problem("%v", err)
	}
}

// validTTL reports whether a lease_ttl is valid or unset.
func validTTL(ttl *durationpb.Duration) bool {
	return ttl == nil || ttl.IsValid() && servicekey.ValidTTL(ttl.AsDuration())
}

// isDuration reports a duration with invalid fields. It returns whether the
// duration is valid or unset.
func isDuration(at position, d *durationpb.Duration) bool {
	if d == nil || d.IsValid() {
		return true
	}

	at.problem("is not a valid duration (seconds: %d, nanos: %d): want at most 315576000000 seconds, and nanos with the same sign and below a second",
		d.GetSeconds(), d.GetNanos())

	return false
}

// checkAuthority checks the authority in the options or, if there is none, the
// authority from the key.
func checkAuthority(s *service, keyOK bool) {
	if authority := s.options.GetAuthority(); authority != "" {
		if err := servicekey.CheckAuthority(authority); err != nil {
			s.option.in("authority").problem("%q %v", authority, err)
		}

		return
	}

	if !keyOK {
		return
	}

	if authority, ok := servicekey.Authority(s.options.GetKey()); !ok {
		s.option.in("key").problem("%q gives the authority %q, which is not a valid host: set authority, the name that TLS checks the servers' certificates against",
			s.options.GetKey(), authority)
	}
}

// checkLoadBalancing reports values that gRPC would reject or ignore.
func checkLoadBalancing(s *service) {
	lb := s.options.GetLoadBalancing()

	// Live configs may spell the header in any case, proto files only in lower
	// case.
	header := strings.ToLower(lb.GetLaneHeader())
	if header != lb.GetLaneHeader() && serviceconfig.ValidHeader(header) {
		s.option.in("load_balancing").in("lane_header").problem(
			"is %q: give it %s, in lower case",
			lb.GetLaneHeader(), serviceconfig.WantHeader)
	}

	if detection := lb.GetOutlierDetection(); detection != nil {
		at := s.option.in("load_balancing").in("outlier_detection")
		checkEjections(at, detection, lb.GetPickFirst() != nil)
	}
}

// checkEjections reports an outlier detection without effect.
func checkEjections(
	at position,
	detection *discoveryv1.OutlierDetection,
	pickFirst bool,
) {
	// Of all percentages, only this one is 0 by default.
	ejection := detection.GetFailurePercentageEjection()
	if ejection != nil && ejection.GetEnforcementPercentage() == 0 && complete(ejection) {
		at.in("failure_percentage_ejection").in("enforcement_percentage").problem(
			"is 0 or left out, so that no endpoint is ever ejected: give it 1 to 100")
	}

	switch {
	case !complete(detection):
	case pickFirst:
		at.problem("has no effect with pick_first: leave one of them out")
	case detection.GetSuccessRateEjection() == nil && ejection == nil:
		at.problem(
			"has no effect: set success_rate_ejection or failure_percentage_ejection")
	}
}
