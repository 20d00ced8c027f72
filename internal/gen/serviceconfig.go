package gen

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	discoveryv1 "github.com/etcdrpc/protoc-gen-go-etcd/proto/etcd/discovery/v1"
)

// addMethodConfig adds the config of a method, if its options give one, to the
// service's config. gRPC uses only the most specific config of a method. So the
// config takes the values that the method does not set from byDefault, the
// config of default_method.
func (s *service) addMethodConfig(m *method, byDefault serviceconfig.Method) {
	config := s.methodConfig(m.option, string(m.proto.Desc.Name()), m.options)
	if !configures(m.options) {
		return
	}

	config.Timeout = cmp.Or(config.Timeout, byDefault.Timeout)
	config.WaitForReady = cmp.Or(config.WaitForReady, byDefault.WaitForReady)

	if m.options.GetRetry() == nil {
		config.Retry = byDefault.Retry
	}

	s.config.Methods = append(s.config.Methods, config)
}

// configures reports whether options set a field of method configs.
func configures(options *discoveryv1.MethodOptions) bool {
	return options.GetTimeout() != nil ||
		options.GetWaitForReady() ||
		options.GetRetry() != nil
}

// loadBalancing returns the policy of a service, with its child policies. The
// picking policy is at the bottom. The policy "etcd" is above it if the options
// need "etcd". Outlier detection is at the top if the options enable it.
func loadBalancing(s *service) serviceconfig.Policy {
	at := s.option.in("load_balancing")
	lb := s.options.GetLoadBalancing()
	policy := picking(s)
	if options := etcdOptions(lb); options != nil {
		policy = s.lower(at, serviceconfig.EtcdName, options, child(policy))
	}

	if detection := lb.GetOutlierDetection(); detection != nil {
		policy = s.lower(at.in("outlier_detection"),
			serviceconfig.OutlierDetectionName, detection, child(policy))
	}

	return policy
}

// child returns the field childPolicy of a config, with policy as the only
// child.
func child(policy serviceconfig.Policy) map[string]any {
	return map[string]any{"childPolicy": []any{policy}}
}

// etcdOptions returns the options of the policy "etcd", nil if there are none.
// That policy decides which instances a call may go to.
func etcdOptions(lb *discoveryv1.LoadBalancing) *discoveryv1.LoadBalancing {
	var options *discoveryv1.LoadBalancing
	lb.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if serviceconfig.OptionNamed(fd.JSONName()) != nil {
			options = cmp.Or(options, new(discoveryv1.LoadBalancing))
			options.ProtoReflect().Set(fd, v)
		}

		return true
	})

	return options
}

// picking returns the policy that picks an endpoint.
func picking(s *service) serviceconfig.Policy {
	lb := s.options.GetLoadBalancing()
	name := policyName(lb)
	if name == "" && len(s.withAffinity()) > 0 {
		name = "ring_hash"
	}

	for _, p := range serviceconfig.Picking {
		if p.Proto == string(name) {
			m := lb.ProtoReflect()
			options := m.Get(m.Descriptor().Fields().ByName(name)).Message()

			return s.lower(s.option.in("load_balancing").in(name),
				p.Name, options.Interface(), p.Given)
		}
	}

	return serviceconfig.Policy{
		Name:   serviceconfig.RoundRobinName,
		Config: &serviceconfig.RoundRobin{},
	}
}

// lower returns the named policy with a config that has the fields of m and of
// given. The fields of m have the same JSON names in the config. Faults of m
// are reported at the position at.
func (s *service) lower(
	at position,
	policy string,
	m proto.Message,
	given map[string]any,
) serviceconfig.Policy {
	config := fieldsOf(m)
	maps.Copy(config, given)
	p, err := serviceconfig.ReadPolicy(policy, config)
	s.report(at, err)

	return p
}

// fieldsOf returns the fields of a message by their JSON names. It leaves out
// invalid durations, which checkNewer reports.
func fieldsOf(m proto.Message) map[string]any {
	fields := map[string]any{}
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.Kind() == protoreflect.Uint64Kind {
			fields[fd.JSONName()] = v.Uint() // protobuf's JSON would make it a string
			return true
		}

		field := m.ProtoReflect().New()
		field.Set(fd, v)

		text, err := protojson.Marshal(field.Interface())
		if err != nil {
			return true
		}

		if err := json.Unmarshal(text, &fields); err != nil {
			panic(fmt.Sprintf("protobuf's own JSON: %v", err))
		}

		return true
	})

	return fields
}

// report reports the faults of the message at a position, except missing fields
// of options that are newer than this plugin.
func (s *service) report(at position, err error) {
	if err == nil {
		return
	}

	var faults *serviceconfig.Faults
	if !errors.As(err, &faults) {
		faults = &serviceconfig.Faults{{Text: err.Error()}}
	}

	for _, f := range *faults {
		// a fault of the child policy, which was reported when the child was
		// built
		inChild := len(f.Path) > 0 && f.Path[0] == "childPolicy"
		if !inChild && (!s.newer || !f.Missing) {
			policy := string(policyName(s.options.GetLoadBalancing()))
			at.fault(f, cmp.Or(policy, "an affinity"))
		}
	}
}

// throttling returns the config of retry_throttling, nil if it is not set, and
// reports its faults.
func (s *service) throttling() *serviceconfig.RetryThrottling {
	options := s.options.GetRetryThrottling()
	if options == nil {
		return nil
	}

	config := new(serviceconfig.RetryThrottling)
	err := serviceconfig.Read(config, fieldsOf(options))
	s.report(s.option.in("retry_throttling"), err)

	return config
}

// healthCheck returns the config of health_check, nil if it is off. gRPC's
// servers report a service's health under the service's full name, and the
// health of the whole server under "".
func healthCheck(s *service) *serviceconfig.HealthCheck {
	if !s.options.GetHealthCheck() {
		return nil
	}

	return &serviceconfig.HealthCheck{ServiceName: string(s.proto.Desc.FullName())}
}

// methodConfig returns the config for the options of a method or, with the name
// "", of default_method. Faults of the options are reported at the position at.
func (s *service) methodConfig(
	at position,
	name string,
	options *discoveryv1.MethodOptions,
) (config serviceconfig.Method) {
	fields := fieldsOf(&discoveryv1.MethodOptions{
		Timeout:      options.GetTimeout(),
		WaitForReady: options.GetWaitForReady(),
	})
	fields["name"] = []serviceconfig.MethodName{
		{Service: string(s.proto.Desc.FullName()), Method: name},
	}

	// a method with a single attempt turns off the retry of default_method
	byDefault := s.options.GetDefaultMethod()
	retry := options.GetRetry()
	off := options != byDefault &&
		byDefault.GetRetry() != nil &&
		proto.Equal(retry, &discoveryv1.Retry{MaxAttempts: 1})

	if retry != nil && !off {
		fields["retryPolicy"] = retryFields(retry)
	}

	s.report(at, serviceconfig.Read(&config, fields))

	return config
}

// retryFields returns the fields of a retry policy. It leaves out codes that
// this plugin does not know, which checkNewer reports.
func retryFields(retry *discoveryv1.Retry) map[string]any {
	fields := fieldsOf(retry)
	delete(fields, "codes")

	var codes []string
	for _, code := range retry.GetCodes() {
		if known(code) {
			codes = append(codes, strings.TrimPrefix(code.String(), "CODE_"))
		}
	}

	if codes != nil {
		fields["retryableStatusCodes"] = codes
	}

	return fields
}

// durationJSON formats a duration as protobuf's JSON does, as in "1.500s".
func durationJSON(d *durationpb.Duration) string {
	text, err := protojson.Marshal(d)
	if err != nil {
		panic(fmt.Sprintf("a duration that was checked: %v", err))
	}

	return strings.Trim(string(text), `"`)
}
