package balancer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/roundrobin" // the default child
	grpcserviceconfig "google.golang.org/grpc/serviceconfig"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// config is the policy's own. It survives being marshalled and parsed again, as gRPC asks of a
// policy's config.
type config struct {
	grpcserviceconfig.LoadBalancingConfig `json:"-"`

	// Split shares the calls out among groups of endpoints. An endpoint belongs to the first group
	// that it matches; those that match none get calls only while no group has one that is ready.
	Split []splitConfig `json:"split,omitempty"`
	// PreferZone has endpoints of the client's own zone take the calls while one of them is ready.
	PreferZone bool `json:"preferZone,omitempty"`
	// Drain names instances, or addresses, that get no new calls.
	Drain []string `json:"drain,omitempty"`
	// ChildPolicy picks among the endpoints that are left: the first policy that is known. Default:
	// round_robin.
	ChildPolicy []map[string]json.RawMessage `json:"childPolicy,omitempty"`

	child childConfig
}

// splitConfig is one group: the endpoints that match, and its share of the calls beside the others'.
type splitConfig struct {
	// Match maps "version", "zone", "instance", "addr" or the name of a piece of metadata to the
	// value that it must have.
	Match  map[string]string `json:"match"`
	Weight uint32            `json:"weight"`
}

// childConfig is the first policy of a list that is registered in this binary.
type childConfig struct {
	builder balancer.Builder
	config  grpcserviceconfig.LoadBalancingConfig
}

func parseConfig(text json.RawMessage) (*config, error) {
	c := &config{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
		return nil, fmt.Errorf("policy %q: %w", Name, err)
	}
	if err := c.checkSplit(); err != nil {
		return nil, fmt.Errorf("policy %q: %w", Name, err)
	}
	if len(c.ChildPolicy) == 0 {
		c.ChildPolicy = []map[string]json.RawMessage{{"round_robin": json.RawMessage("{}")}}
	}
	child, err := parseChild(c.ChildPolicy)
	if err != nil {
		return nil, fmt.Errorf("policy %q: childPolicy: %w", Name, err)
	}
	c.child = child
	return c, nil
}

func (c *config) checkSplit() error {
	total := uint64(0)
	for i, s := range c.Split {
		if len(s.Match) == 0 {
			return fmt.Errorf("split[%d] has no match", i)
		}
		total += uint64(s.Weight)
	}
	if len(c.Split) > 0 && total == 0 {
		return errors.New("split: all weights are zero")
	}
	return nil
}

func parseChild(policies []map[string]json.RawMessage) (childConfig, error) {
	var unknown []string
	for _, policy := range policies {
		if len(policy) != 1 {
			return childConfig{}, errors.New("each entry must have exactly one field, the policy's name")
		}
		for name, text := range policy {
			builder := balancer.Get(name)
			if builder == nil {
				unknown = append(unknown, name)
				continue
			}
			if name == Name {
				return childConfig{}, fmt.Errorf("the policy %q cannot stand below itself", name)
			}
			parser, ok := builder.(balancer.ConfigParser)
			if !ok {
				return childConfig{builder: builder}, nil
			}
			parsed, err := parser.ParseConfig(text)
			if err != nil {
				return childConfig{}, fmt.Errorf("%s: %w", name, err)
			}
			return childConfig{builder: builder, config: parsed}, nil
		}
	}
	hint := ""
	for _, name := range unknown {
		hint += serviceconfig.Hint(name)
	}
	return childConfig{}, fmt.Errorf("none of the policies %q is known%s", unknown, hint)
}
