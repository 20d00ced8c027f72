// Package serviceconfig defines the gRPC service configs that are accepted:
// their fields, policies, ranges, depth and size. It rejects every other
// config, with an error that names the place in the JSON.
//
// The format is https://github.com/grpc/grpc/blob/master/doc/service_config.md.
// The generator builds its configs from the types here. Clients pass gRPC the
// JSON that these types write, never the text that is in etcd.
//
//	serviceconfig.go   the document: Parse, ParseLive
//	method.go          methodConfig and retryThrottling
//	policy.go          the policies, where each may stand, and which ones a binary lacks
//	etcd.go            the policy "etcd", its groups (splits) and its lanes (routes)
//	option.go          the options of "etcd", and which have no effect together
//	layers.go          configs over configs: Merge, Wrap
//	decode.go          decoding JSON strictly into structs, and durations
//
// Package plan decides by a config which endpoints a call may go to. Package
// grpccheck lets gRPC itself parse a config.
package serviceconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
)

// AffinityHeader is the request metadata that ring_hash_experimental hashes:
// the runtime sends the affinity of a call in it, and generated configs name
// it.
const AffinityHeader = "etcd-affinity"

const (
	// MaxSize bounds a live config, in bytes.
	MaxSize = 256 << 10

	// MaxDepth bounds how deep a config may nest objects and arrays. A valid
	// config needs 10.
	MaxDepth = 32
)

// These are gRPC's default message limits, which a live config may lower but
// not raise.
const (
	defaultMaxResponse = 4 << 20
	defaultMaxRequest  = math.MaxInt32
)

// These are the fields of the document.
const (
	policyField     = "loadBalancingPolicy"
	configField     = "loadBalancingConfig"
	methodField     = "methodConfig"
	throttlingField = "retryThrottling"
	healthField     = "healthCheckConfig"
)

// Config is a service config.
type Config struct {
	// LoadBalancing lists policies. gRPC uses the first policy that is linked,
	// or round_robin if the list is empty.
	LoadBalancing []Policy `json:"loadBalancingConfig,omitempty" of:"policies"`

	// ByName is gRPC's deprecated way to name a policy. Parse moves it to
	// LoadBalancing.
	ByName *PolicyName `json:"loadBalancingPolicy,omitempty"`

	// an empty list overrides the list of a lower layer
	Methods []Method `json:"methodConfig,omitzero" of:"methods" min:"0"`

	RetryThrottling *RetryThrottling `json:"retryThrottling,omitempty"`
	HealthCheck     *HealthCheck     `json:"healthCheckConfig,omitempty"`
}

// Etcd returns the config of "etcd" if the first policy is "etcd" or has it as a
// child. Otherwise, or if c is nil, Etcd returns nil.
func (c *Config) Etcd() *Etcd {
	if c == nil || len(c.LoadBalancing) == 0 {
		return nil
	}

	return c.LoadBalancing[0].Etcd()
}

// HealthCheck turns client-side health checks on.
type HealthCheck struct {
	ServiceName string `json:"serviceName"` // "" selects the whole server
}

// check moves ByName to LoadBalancing, and rejects a method that is named
// twice.
func (c *Config) check(p place) {
	switch {
	case c.ByName == nil:
	case c.LoadBalancing != nil:
		p.in(policyField).fault(
			"is set together with %s, which gRPC prefers: leave it out", configField)

	default:
		c.LoadBalancing = []Policy{Policy(*c.ByName)}
		c.ByName = nil

		if etcd, ok := c.LoadBalancing[0].Config.(*Etcd); ok {
			etcd.complete() // no overlay
		}
	}

	seen := map[MethodName]bool{}
	for i, m := range c.Methods {
		for _, name := range m.Name {
			if seen[name] {
				p.in(methodField, index(i), "name").fault("%s is named twice", name)
			}

			seen[name] = true
		}
	}
}

// Parse parses a service config. gRPC accepts every config that Parse accepts,
// and ignores no part of it. An empty text is an error.
func Parse(text string) (*Config, error) {
	return parse(text, place{})
}

// ParseLive parses a service config that is, or will be, live in etcd. It is
// stricter than Parse, because others may write there: MaxSize applies, and
// message limits may be lowered but not raised.
func ParseLive(text string) (*Config, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("the service config has %d bytes, more than %d",
			len(text), MaxSize)
	}

	return parse(text, place{live: true, written: true})
}

func parse(text string, p place) (*Config, error) {
	c := new(Config)
	if err := decode(text, c, p); err != nil {
		return nil, err
	}

	return c, nil
}

// JSON returns the config as JSON. Equal configs have equal JSON.
func (c *Config) JSON() string {
	text, err := marshal(c)
	if err != nil {
		panic(err) // not reached: JSON can represent all values
	}

	return string(text)
}

// LoadBalancingOnly returns an error if the config has a field that does not
// configure load balancing. The error names the first such field.
func (c *Config) LoadBalancingOnly() error {
	var field string

	switch {
	case c.Methods != nil:
		field = methodField
	case c.RetryThrottling != nil:
		field = throttlingField
	case c.HealthCheck != nil:
		field = healthField
	default:
		return nil
	}

	return fmt.Errorf(
		"leave out %s: this client accepts only load balancing in a live config", field)
}

// marshal is json.Marshal without escapes for HTML.
func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)

	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), err
}
