package serviceconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials/insecure"
)

var documentFields = []string{policyField, configField, "methodConfig", "retryThrottling", "healthCheckConfig"}

// document is all that gRPC for Go reads of a service config.
type document struct {
	LoadBalancingPolicy *string        `json:"loadBalancingPolicy"`
	LoadBalancingConfig []object       `json:"loadBalancingConfig"`
	MethodConfig        []methodConfig `json:"methodConfig"`
	RetryThrottling     *struct {
		MaxTokens  float64 `json:"maxTokens"`
		TokenRatio float64 `json:"tokenRatio"`
	} `json:"retryThrottling"`
	HealthCheckConfig *struct {
		ServiceName string `json:"serviceName"`
	} `json:"healthCheckConfig"`
}

type methodConfig struct {
	Name []struct {
		Service string `json:"service"`
		Method  string `json:"method"`
	} `json:"name"`
	WaitForReady            *bool            `json:"waitForReady"`
	Timeout                 *string          `json:"timeout"`
	MaxRequestMessageBytes  *json.RawMessage `json:"maxRequestMessageBytes"`
	MaxResponseMessageBytes *json.RawMessage `json:"maxResponseMessageBytes"`
	RetryPolicy             *retryPolicy     `json:"retryPolicy"`
}

type retryPolicy struct {
	MaxAttempts          int               `json:"maxAttempts"`
	InitialBackoff       string            `json:"initialBackoff"`
	MaxBackoff           string            `json:"maxBackoff"`
	BackoffMultiplier    float64           `json:"backoffMultiplier"`
	RetryableStatusCodes []json.RawMessage `json:"retryableStatusCodes"`
}

// refusedPolicies panic without what only xDS gives them, or take their endpoints from elsewhere than
// etcd: from a server that the config names.
var refusedPolicies = []string{
	"autosharding_experimental", "rls_experimental", "grpclb", "cds_experimental", "cluster_resolver_experimental",
	"xds_cluster_impl_experimental", "xds_cluster_manager_experimental", "weighted_target_experimental", "priority_experimental",
}

// policyFields are the fields of gRPC's policies, which ignore any other. A policy that is not
// listed checks its own config.
var policyFields = map[string][]string{
	"round_robin":                {},
	"pick_first":                 {"shuffleAddressList"},
	"least_request_experimental": {"choiceCount"},
	"ring_hash_experimental":     {"minRingSize", "maxRingSize", "requestHashHeader"},
}

// MaxSize bounds a service config that is live in etcd, in bytes.
const MaxSize = 256 << 10

// CheckLive is Check for a config that is, or is to be, live in etcd.
func CheckLive(text string) error {
	if len(text) > MaxSize {
		return fmt.Errorf("the service config has %d bytes, more than %d", len(text), MaxSize)
	}
	return Check(text)
}

// Check refuses what gRPC would refuse, and what it would silently ignore or misread.
func Check(text string) error {
	o, err := parseObject(text)
	if err != nil {
		return err
	}
	for field := range o { // which the decoder below takes in any case, but nobody else does
		if !slices.Contains(documentFields, field) {
			return fmt.Errorf("the service config has a field that gRPC does not know: %q", field)
		}
	}
	var doc document
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&doc); err != nil {
		return fmt.Errorf("the service config has a field that gRPC does not know, or of the wrong type: %w", err)
	}
	if err := doc.check(); err != nil {
		return err
	}
	return parse(text)
}

// parse has gRPC read the config, in the one way it offers; nothing is connected to.
func parse(text string) error {
	conn, err := grpc.NewClient("passthrough:///unused",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(text))
	if err != nil {
		return fmt.Errorf("gRPC refuses the service config: %w", err)
	}
	return conn.Close()
}

func (d *document) check() error {
	if d.LoadBalancingPolicy != nil && balancer.Get(*d.LoadBalancingPolicy) == nil {
		return fmt.Errorf("%s: no policy is named %q", policyField, *d.LoadBalancingPolicy)
	}
	if err := checkPolicies(d.LoadBalancingConfig); err != nil {
		return fmt.Errorf("%s: %w", configField, err)
	}
	for i := range d.MethodConfig {
		if err := d.MethodConfig[i].check(); err != nil {
			return fmt.Errorf("methodConfig[%d]: %w", i, err)
		}
	}
	return nil
}

func checkPolicies(policies []object) error {
	for i, policy := range policies {
		if len(policy) != 1 {
			return fmt.Errorf("entry %d must have exactly one field, the policy's name", i)
		}
		for name, config := range policy {
			if slices.Contains(refusedPolicies, name) {
				return fmt.Errorf("the policy %q is not supported", name)
			}
			if balancer.Get(name) == nil {
				return fmt.Errorf("no policy is named %q%s", name, Hint(name))
			}
			if err := checkFields(name, config); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := checkChildren(config); err != nil {
				return fmt.Errorf("%s: childPolicy: %w", name, err)
			}
		}
	}
	return nil
}

// Hint tells how to have a policy that this binary lacks, as the end of an error's text.
func Hint(policy string) string {
	if policy != "outlier_detection_experimental" {
		return ""
	}
	return ` in this binary: import _ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection"`
}

// checkChildren checks the policies below a policy, where it has any.
func checkChildren(config json.RawMessage) error {
	var parent struct {
		ChildPolicy []object `json:"childPolicy"`
	}
	if err := json.Unmarshal(config, &parent); err != nil {
		return err
	}
	return checkPolicies(parent.ChildPolicy)
}

func checkFields(policy string, config json.RawMessage) error {
	known, ok := policyFields[policy]
	if !ok {
		return nil
	}
	o, err := parseObject(string(config))
	if err != nil {
		return err
	}
	for field := range o {
		if !slices.Contains(known, field) {
			return fmt.Errorf("unknown field %q", field)
		}
	}
	return nil
}

func (m *methodConfig) check() error {
	if len(m.Name) == 0 {
		return errors.New("has no name, so it would apply to nothing")
	}
	for _, name := range m.Name {
		if name.Service == "" && name.Method != "" {
			return fmt.Errorf("names the method %q without its service", name.Method)
		}
	}
	if m.Timeout != nil {
		if err := checkPositive("timeout", *m.Timeout); err != nil {
			return err
		}
	}
	if m.RetryPolicy != nil {
		return m.RetryPolicy.check()
	}
	return nil
}

func (r *retryPolicy) check() error {
	if r.MaxAttempts < 2 || r.MaxAttempts > 5 {
		return fmt.Errorf("retryPolicy.maxAttempts is %d: want 2 to 5", r.MaxAttempts)
	}
	if err := errors.Join(checkPositive("retryPolicy.initialBackoff", r.InitialBackoff),
		checkPositive("retryPolicy.maxBackoff", r.MaxBackoff)); err != nil {
		return err
	}
	initial, _ := duration(r.InitialBackoff)
	if longest, _ := duration(r.MaxBackoff); initial > longest {
		return fmt.Errorf("retryPolicy.initialBackoff %s is longer than maxBackoff %s", r.InitialBackoff, r.MaxBackoff)
	}
	if r.BackoffMultiplier <= 0 {
		return fmt.Errorf("retryPolicy.backoffMultiplier is %v: want more than 0", r.BackoffMultiplier)
	}
	if len(r.RetryableStatusCodes) == 0 {
		return errors.New("retryPolicy.retryableStatusCodes is empty")
	}
	return nil
}

func checkPositive(field, text string) error {
	d, err := duration(text)
	if err != nil {
		return fmt.Errorf("%s: %w", field, err)
	}
	if d <= 0 {
		return fmt.Errorf("%s is %q: want more than 0", field, text)
	}
	return nil
}

// duration reads a protobuf Duration in its JSON form, "1.5s".
func duration(text string) (time.Duration, error) {
	seconds, ok := strings.CutSuffix(text, "s")
	if !ok {
		return 0, fmt.Errorf("%q is no duration: want seconds such as \"1.5s\"", text)
	}
	if _, err := strconv.ParseFloat(seconds, 64); err != nil || strings.ContainsAny(seconds, "eExXnNpP_") {
		return 0, fmt.Errorf("%q is no duration: want seconds such as \"1.5s\"", text)
	}
	return time.ParseDuration(text)
}
