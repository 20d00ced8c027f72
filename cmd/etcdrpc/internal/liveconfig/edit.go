// Package liveconfig reads the text of live service configs, and edits it without touching what it does not understand. It
// knows nothing of instances.
package liveconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// The fields of a service config that the instances to drain are in.
const (
	fieldConfig = "loadBalancingConfig"
	fieldPolicy = "loadBalancingPolicy"
	fieldDrain  = "drain"
	fieldChild  = "childPolicy"
	policyEtcd  = serviceconfig.EtcdName
)

type object = map[string]json.RawMessage

// Config is a service config that is edited without touching what is not understood.
type Config struct {
	top  object
	etcd object // the config of the policy "etcd"; nil: none yet
}

// Parse reads a live config, of which "" is the empty one.
func Parse(text []byte) (*Config, error) {
	c := &Config{top: object{}}
	if len(text) == 0 {
		return c, nil
	}
	if err := json.Unmarshal(text, &c.top); err != nil {
		return nil, fmt.Errorf("the live service config is not a JSON object: %w", err)
	}
	if c.top == nil {
		return nil, errors.New("the live service config is null, not a JSON object")
	}
	policies, err := c.policies()
	if err != nil || len(policies) == 0 {
		return c, err
	}
	if raw, ok := policies[0][policyEtcd]; ok {
		if err := json.Unmarshal(raw, &c.etcd); err != nil {
			return nil, fmt.Errorf("the live service config: policy %q: %w", policyEtcd, err)
		}
	}
	return c, nil
}

func (c *Config) policies() (policies []object, err error) {
	if raw, ok := c.top[fieldConfig]; ok {
		if err := json.Unmarshal(raw, &policies); err != nil {
			return nil, fmt.Errorf("the live service config: %s: %w", fieldConfig, err)
		}
	}
	return policies, nil
}

// NamesPolicy reports whether the config says how to balance, so that it overrides what the generated
// one says of that.
func (c *Config) NamesPolicy() bool {
	_, byName := c.top[fieldPolicy]
	policies, err := c.policies()
	return byName || err == nil && len(policies) > 0
}

// BegunByDrain reports whether there is nothing in the config but what drain begins one with.
func (c *Config) BegunByDrain() bool {
	_, child := c.etcd[fieldChild]
	return len(c.top) == 1 && len(c.etcd) == 1 && child
}

// Drained returns the names in the list of those to drain.
func (c *Config) Drained() (names []string, err error) {
	if raw, ok := c.etcd[fieldDrain]; ok {
		if err := json.Unmarshal(raw, &names); err != nil {
			return nil, fmt.Errorf("the live service config: %s: %w", fieldDrain, err)
		}
	}
	return names, nil
}

// Drained returns the names in the list of a config that may be no good.
func Drained(text []byte) []string {
	c, err := Parse(text)
	if err != nil {
		return nil
	}
	names, err := c.Drained()
	if err != nil {
		return nil
	}
	return names
}

// Set sets a field of the policy "etcd", which SetDrained has put there.
func (c *Config) Set(field string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return err
	}
	c.etcd[field] = raw
	return c.put()
}

// SetDrained replaces the list of those to drain, under the policy "etcd", which is put above the
// present policy where it is not there. child is the policy to put it above where there is none.
func (c *Config) SetDrained(names []string, child json.RawMessage) error {
	if c.etcd == nil {
		below, err := c.below(child)
		if err != nil {
			return err
		}
		c.etcd = object{fieldChild: below}
	}
	delete(c.etcd, fieldDrain)
	if len(names) > 0 {
		raw, err := json.Marshal(names)
		if err != nil {
			return err
		}
		c.etcd[fieldDrain] = raw
	}
	return c.put()
}

// below returns the list of policies that the policy "etcd" is put above.
func (c *Config) below(child json.RawMessage) (json.RawMessage, error) {
	policies, err := c.policies()
	if err != nil {
		return nil, err
	}
	if len(policies) > 0 {
		return c.top[fieldConfig], nil
	}
	raw, ok := c.top[fieldPolicy]
	if !ok {
		return child, nil
	}
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return nil, fmt.Errorf("the live service config: %s: %w", fieldPolicy, err)
	}
	return json.Marshal([]map[string]any{{name: struct{}{}}})
}

// put writes the policy "etcd" back into the config.
func (c *Config) put() error {
	policies, err := c.policies()
	if err != nil {
		return err
	}
	raw, err := json.Marshal(c.etcd)
	if err != nil {
		return err
	}
	if len(policies) > 0 && policies[0][policyEtcd] != nil {
		policies[0][policyEtcd] = raw
	} else {
		policies = []object{{policyEtcd: raw}}
	}
	raw, err = json.Marshal(policies)
	c.top[fieldConfig] = raw
	delete(c.top, fieldPolicy)
	return err
}

func (c *Config) String() string {
	text, err := json.Marshal(c.top)
	if err != nil {
		panic(err) // cannot be: it consists of valid JSON
	}
	return string(text)
}

// DefaultPolicy is what a live config is begun with if nobody says otherwise.
const DefaultPolicy = "round_robin"

// shortPolicies are the options of load_balancing in proto files, and how gRPC spells them.
var shortPolicies = []struct{ name, json string }{
	{DefaultPolicy, `{"` + serviceconfig.RoundRobinName + `":{}}`},
	{"pick_first", `{"` + serviceconfig.PickFirstName + `":{}}`},
	{"least_request", `{"` + serviceconfig.LeastRequestName + `":{}}`},
	{"ring_hash", `{"` + serviceconfig.RingHashName + `":{"requestHashHeader":"` + serviceconfig.AffinityHeader + `"}}`},
	{"weighted", `{"` + serviceconfig.WeightedName + `":{}}`},
	{"peak_ewma", `{"` + serviceconfig.PeakEwmaName + `":{}}`},
}

// PolicyNames returns the names that [ChildPolicy] takes, the default first.
func PolicyNames() []string {
	names := make([]string, len(shortPolicies))
	for n, p := range shortPolicies {
		names[n] = p.name
	}
	return names
}

// ChildPolicy reads the policy that a user names: by what the proto option is called, or as JSON of
// one policy or of a list of them.
func ChildPolicy(text string) (json.RawMessage, error) {
	for _, p := range shortPolicies {
		if p.name == text {
			return json.RawMessage("[" + p.json + "]"), nil
		}
	}
	raw := bytes.TrimSpace([]byte(text))
	var one object
	var list []object
	switch {
	case json.Unmarshal(raw, &one) == nil && len(one) == 1:
		return slices.Concat([]byte("["), raw, []byte("]")), nil
	case json.Unmarshal(raw, &list) == nil && len(list) > 0:
		return raw, nil
	}
	return nil, fmt.Errorf(`want %s, or JSON such as {"least_request_experimental":{"choiceCount":3}}`, strings.Join(PolicyNames(), ", "))
}
