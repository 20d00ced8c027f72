package childpolicy

import (
	"fmt"

	"google.golang.org/grpc/balancer"
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Config is a policy that is linked, and its config.
type Config struct {
	builder balancer.Builder
	parsed  grpcserviceconfig.LoadBalancingConfig
	text    string // of parsed
}

// Parse has a policy, which must be linked, parse its config.
func Parse(policy serviceconfig.Policy) (*Config, error) {
	text, err := policy.ConfigJSON()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", policy.Name, err)
	}
	c := &Config{builder: balancer.Get(policy.Name), text: string(text)}
	if parser, ok := c.builder.(balancer.ConfigParser); ok {
		parse := func() (err error) { c.parsed, err = parser.ParseConfig(text); return err }
		if err := recovered(parse); err != nil {
			return nil, fmt.Errorf("%s: %w", policy.Name, err)
		}
	}
	return c, nil
}

// Policy returns the name of the policy.
func (c *Config) Policy() string { return c.builder.Name() }

// Same reports whether two configs, which may be nil, are for one policy and say the same.
func (c *Config) Same(o *Config) bool {
	return c == o || c != nil && o != nil && c.Policy() == o.Policy() && c.text == o.text
}

// maxBad bounds how many configs are remembered as bad.
const maxBad = 16

// Bad remembers the configs that have made a policy panic. The zero value has none.
type Bad struct{ why map[badKey]error }

type badKey struct{ policy, config string }

// Why returns why a config is not to be used, nil if it may be, or is nil.
func (b *Bad) Why(c *Config) error {
	if c == nil {
		return nil
	}
	return b.why[badKey{c.Policy(), c.text}]
}

// Add remembers a config, and returns why it is not to be used, nil if that was known.
func (b *Bad) Add(c *Config, why error) error {
	if b.Why(c) != nil {
		return nil
	}
	if b.why == nil || len(b.why) >= maxBad {
		b.why = make(map[badKey]error)
	}
	err := fmt.Errorf("etcd: the policy %q is not used: %w", c.Policy(), why)
	b.why[badKey{c.Policy(), c.text}] = err
	return err
}
