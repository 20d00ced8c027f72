// Package serviceconfig describes what a gRPC service config may hold: fields, policies, ranges,
// depth and size. It refuses everything else, with an error that names the place in the JSON.
//
// The format is https://github.com/grpc/grpc/blob/master/doc/service_config.md. The generator builds
// its configs from the types here, and clients hand gRPC the JSON that these types write, never the text
// that somebody put into etcd.
//
//	serviceconfig.go   the document: Parse, ParseLive
//	method.go          methodConfig and retryThrottling
//	policy.go          the policies, and where each may stand
//	etcd.go            the policy "etcd", and its options
//	option.go          ... what is said of each, and reading what proto files say
//	split.go           ... its groups
//	route.go           ... its lanes
//	drain.go           ... when its drain is followed
//	slowstart.go       ... shares that grow
//	linked.go          policies that the binary lacks
//	layers.go          configs over configs: Merge, Wrap
//	value.go           reading JSON strictly
//	fault.go           what is wrong, and where
//
// Package grpccheck below it asks gRPC itself.
package serviceconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// AffinityHeader is the request metadata by whose value ring_hash_experimental picks: the runtime
// sends the affinity of a call in it, and generated configs name it.
const AffinityHeader = "etcd-affinity"

const (
	// MaxSize bounds a live config, in bytes.
	MaxSize = 256 << 10
	// MaxDepth bounds how deep a config may nest objects and arrays. What is described needs 10.
	MaxDepth = 32
)

// gRPC's default message limits, which a live config may lower but not lift.
const (
	defaultMaxResponse = 4 << 20
	defaultMaxRequest  = math.MaxInt32
)

// The fields of the document.
const (
	policyField     = "loadBalancingPolicy" // deprecated: a policy by name alone
	configField     = "loadBalancingConfig"
	methodField     = "methodConfig"
	throttlingField = "retryThrottling"
	healthField     = "healthCheckConfig"
)

// Config is a service config. Its deprecated loadBalancingPolicy is read into LoadBalancing.
type Config struct {
	// LoadBalancing lists policies, of which the first that is linked counts. Empty: round_robin.
	LoadBalancing   []Policy         `json:"loadBalancingConfig,omitempty"`
	Methods         []Method         `json:"methodConfig,omitzero"` // an empty list hides that of a lower layer
	RetryThrottling *RetryThrottling `json:"retryThrottling,omitempty"`
	HealthCheck     *HealthCheck     `json:"healthCheckConfig,omitempty"`
}

// HealthCheck turns client-side health checks on.
type HealthCheck struct {
	ServiceName string `json:"serviceName"` // "": the server as a whole
}

// document is a config while it is read.
type document struct {
	Config
	byName []Policy // from the deprecated field
}

var documentFields = fields[document]{
	policyField: func(d *document, v value) error {
		name, err := v.text()
		if err != nil {
			return err
		}
		p, err := readPolicy(name, value{raw: []byte("{}")}, top)
		d.byName = []Policy{p}
		return err
	},
	configField: func(d *document, v value) error {
		return assign(&d.LoadBalancing)(readPolicies(v, top))
	},
	methodField: func(d *document, v value) error {
		return assign(&d.Methods)(readMethods(v))
	},
	throttlingField: func(d *document, v value) error {
		return set(&d.RetryThrottling)(readObject(v, throttlingFields, "maxTokens", "tokenRatio"))
	},
	healthField: func(d *document, v value) error {
		return set(&d.HealthCheck)(readObject(v, healthFields))
	},
}

var healthFields = fields[HealthCheck]{
	"serviceName": func(h *HealthCheck, v value) error { return assign(&h.ServiceName)(v.text()) },
}

// Parse reads a service config. gRPC accepts every config that Parse accepts, and ignores nothing in it.
// An empty text is an error.
func Parse(text string) (*Config, error) {
	v, err := parseText(text)
	if err != nil {
		return nil, err
	}
	d, err := readObject(v, documentFields)
	switch {
	case err != nil:
		return nil, err
	case d.byName != nil && d.LoadBalancing != nil:
		return nil, fmt.Errorf("%s: stands beside %s, which gRPC prefers: leave it out", policyField, configField)
	case d.byName != nil:
		d.LoadBalancing = d.byName
	}
	return &d.Config, nil
}

// ParseLive reads a service config that is, or is to be, live in etcd. It is stricter than Parse, because
// others may write there: MaxSize holds, and message limits may be lowered but not lifted.
func ParseLive(text string) (*Config, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("the service config has %d bytes, more than %d", len(text), MaxSize)
	}
	c, err := Parse(text)
	if err != nil {
		return nil, err
	}
	for i := range c.Methods {
		if err := c.Methods[i].checkLive(); err != nil {
			return nil, in(methodField, in(fmt.Sprintf("[%d]", i), err))
		}
	}
	return c, nil
}

// JSON writes the config. Equal configs are written alike.
func (c *Config) JSON() string {
	text, err := marshal(c)
	if err != nil {
		panic(err) // cannot be: every value is plain, and numbers are finite
	}
	return string(text)
}

// LoadBalancingOnly returns an error that names the first field of the config that is not about load
// balancing, nil if there is none.
func (c *Config) LoadBalancingOnly() error {
	for _, field := range []struct {
		name string
		set  bool
	}{{methodField, c.Methods != nil}, {throttlingField, c.RetryThrottling != nil}, {healthField, c.HealthCheck != nil}} {
		if field.set {
			return in(field.name, errors.New("only load balancing may be configured live here: leave it out"))
		}
	}
	return nil
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}
