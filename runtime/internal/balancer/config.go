package balancer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/serviceconfig"
)

// config is the policy's own, {"childPolicy":[{"round_robin":{}}]}. It survives being marshalled
// and parsed again, as gRPC asks of a policy's config.
type config struct {
	serviceconfig.LoadBalancingConfig `json:"-"`

	ChildPolicy []map[string]json.RawMessage `json:"childPolicy,omitempty"`

	child childConfig
}

// childConfig is the first policy of a list that is registered in this binary.
type childConfig struct {
	builder balancer.Builder
	config  serviceconfig.LoadBalancingConfig
}

func parseConfig(text json.RawMessage) (*config, error) {
	c := &config{}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(c); err != nil {
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

func parseChild(policies []map[string]json.RawMessage) (childConfig, error) {
	var names []string
	for _, policy := range policies {
		if len(policy) != 1 {
			return childConfig{}, errors.New("each entry must have exactly one field, the policy's name")
		}
		for name, text := range policy {
			builder := balancer.Get(name)
			if builder == nil {
				names = append(names, name)
				continue
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
	return childConfig{}, fmt.Errorf("none of the policies %q is known", names)
}
