// Package liveconfig reads the text of live service configs, and edits how they balance. It knows nothing of instances.
package liveconfig

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Config is a live config whose load balancing is edited. The rest of its text stays as it is.
type Config struct {
	*serviceconfig.Config
	text, balances string // as it was read
}

// Parse reads a live config, of which "" is the empty one.
func Parse(text string) (*Config, error) {
	c := &Config{Config: new(serviceconfig.Config), text: text}
	if text != "" {
		var err error
		if c.Config, err = serviceconfig.ParseLive(text); err != nil {
			return nil, err
		}
	}
	c.balances = c.balancing()
	return c, nil
}

// Balances reports whether the config says how to balance, so that it overrides what the generated one says of that.
func (c *Config) Balances() bool { return len(c.LoadBalancing) > 0 }

// Etcd returns the policy "etcd", nil if there is none.
func (c *Config) Etcd() *serviceconfig.Etcd {
	if !c.Balances() {
		return nil
	}
	return c.LoadBalancing[0].Etcd()
}

// Policy returns what the policy "etcd" says, which is nothing where there is none.
func (c *Config) Policy() serviceconfig.Etcd {
	if policy := c.Etcd(); policy != nil {
		return *policy
	}
	return serviceconfig.Etcd{}
}

// Begin returns the policy "etcd", which it puts above the present policies where it is not there, but below outlier
// detection, or above child where there are none.
func (c *Config) Begin(child []serviceconfig.Policy) (*serviceconfig.Etcd, error) {
	if policy := c.Etcd(); policy != nil {
		return policy, nil
	}
	above := &c.LoadBalancing
	for _, p := range c.LoadBalancing {
		detection, ok := p.Config.(*serviceconfig.OutlierDetection)
		switch {
		case ok && len(c.LoadBalancing) > 1:
			return nil, fmt.Errorf("the live policy lists %q beside others, above which %q must not stand: put %[2]q below it with policy set", p.Name, serviceconfig.EtcdName)
		case ok:
			above = &detection.ChildPolicy
		}
	}
	if c.Balances() {
		child = *above
	}
	policy := &serviceconfig.Etcd{ChildPolicy: child}
	*above = []serviceconfig.Policy{{Name: serviceconfig.EtcdName, Config: policy}}
	return policy, nil
}

// BegunByDrain reports whether there is nothing in the config but what drain begins one with.
func (c *Config) BegunByDrain() bool {
	policy := c.Etcd()
	return policy != nil && reflect.DeepEqual(*policy, serviceconfig.Etcd{ChildPolicy: policy.ChildPolicy}) &&
		reflect.DeepEqual(*c.Config, serviceconfig.Config{LoadBalancing: c.LoadBalancing})
}

// balancing returns the part of the text that is about load balancing.
func (c *Config) balancing() string {
	text, _ := rewritten([]byte((&serviceconfig.Config{LoadBalancing: c.LoadBalancing}).JSON()), "")
	return text
}

func (c *Config) String() string {
	balances := c.balancing()
	if balances == c.balances {
		return c.text
	}
	text, err := serviceconfig.Merge(c.text, balances)
	if err != nil {
		panic(err) // cannot be: both have been read
	}
	return text
}

// linkedPolicies are the policies that every client of this project links. Others are imported by the code of services
// whose protos name them, which etcd does not hold.
var linkedPolicies = []string{
	serviceconfig.EtcdName, serviceconfig.LeastRequestName, serviceconfig.PeakEwmaName, serviceconfig.PickFirstName,
	serviceconfig.RingHashName, serviceconfig.RoundRobinName, serviceconfig.WeightedName,
}

// Linked says which policy of a live config not every client links, so that those refuse it that do not; nil: there is none.
func Linked(c *serviceconfig.Config) error {
	return c.Linked(func(name string) bool { return slices.Contains(linkedPolicies, name) })
}

// DefaultPolicy is what a live config is begun with if nobody says otherwise.
const DefaultPolicy = "round_robin"

// PolicyNames returns the names that [ChildPolicy] takes, the default first.
func PolicyNames() (names []string) {
	for _, p := range serviceconfig.Picking {
		names = append(names, p.Proto)
	}
	return names
}

// ChildPolicy reads the policy that a user names: by what the proto option is called, or as JSON of
// one policy or of a list of them.
func ChildPolicy(text string) ([]serviceconfig.Policy, error) {
	text = strings.TrimSpace(text)
	for _, p := range serviceconfig.Picking {
		if p.Proto == text {
			policy, _ := serviceconfig.ReadPolicy(p.Name, p.Given)
			return []serviceconfig.Policy{policy}, nil
		}
	}
	if !json.Valid([]byte(text)) {
		return nil, fmt.Errorf(`want %s, or JSON such as {"least_request_experimental":{"choiceCount":3}}`, strings.Join(PolicyNames(), ", "))
	}
	if !strings.HasPrefix(text, "[") {
		text = "[" + text + "]"
	}
	c, err := Parse(`{"loadBalancingConfig":[{"etcd":{"childPolicy":` + text + `}}]}`)
	if err != nil {
		return nil, err
	}
	return c.Etcd().ChildPolicy, nil
}
