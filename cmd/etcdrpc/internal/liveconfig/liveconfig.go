// Package liveconfig parses the text of live service configs, and edits their load balancing. It does not know the instances.
package liveconfig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Config is a live config whose load balancing is edited. The rest of its text is kept.
type Config struct {
	*serviceconfig.Config
	text, oldBalancing string // the parsed text and its load balancing, before any edit
}

// Parse parses a live config. "" is the empty config.
func Parse(text string) (*Config, error) {
	c := &Config{Config: new(serviceconfig.Config), text: text}
	if text != "" {
		var err error
		if c.Config, err = serviceconfig.ParseLive(text); err != nil {
			return nil, err
		}
	}
	c.oldBalancing = c.balancing()
	return c, nil
}

// Balances reports whether the config sets load balancing, and so overrides the load balancing of the generated config.
func (c *Config) Balances() bool { return len(c.LoadBalancing) > 0 }

// Etcd returns the policy "etcd", nil if there is none.
func (c *Config) Etcd() *serviceconfig.Etcd {
	if !c.Balances() {
		return nil
	}
	return c.LoadBalancing[0].Etcd()
}

// Policy returns the policy "etcd", or an empty one if there is none.
func (c *Config) Policy() serviceconfig.Etcd {
	if policy := c.Etcd(); policy != nil {
		return *policy
	}
	return serviceconfig.Etcd{}
}

// EnsureEtcd returns the policy "etcd". If there is none, it adds one above the present policies, but below outlier detection.
// Without present policies, child is its child policy.
func (c *Config) EnsureEtcd(child []serviceconfig.Policy) (*serviceconfig.Etcd, error) {
	if policy := c.Etcd(); policy != nil {
		return policy, nil
	}
	above := &c.LoadBalancing
	for _, p := range c.LoadBalancing {
		detection, ok := p.Config.(*serviceconfig.OutlierDetection)
		switch {
		case ok && len(c.LoadBalancing) > 1:
			return nil, fmt.Errorf("the live policy lists %q and other policies, so %q cannot be added below it: write that policy with policy set", p.Name, serviceconfig.EtcdName)
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

// IsMinimal reports whether the config has no fields but a policy "etcd" that only sets its child policy.
func (c *Config) IsMinimal() bool {
	policy := c.Etcd()
	return policy != nil && reflect.DeepEqual(*policy, serviceconfig.Etcd{ChildPolicy: policy.ChildPolicy}) &&
		reflect.DeepEqual(*c.Config, serviceconfig.Config{LoadBalancing: c.LoadBalancing})
}

// balancing returns the load balancing part of the config as normalized text.
func (c *Config) balancing() string {
	text, _ := normalized([]byte((&serviceconfig.Config{LoadBalancing: c.LoadBalancing}).JSON()), "")
	return text
}

func (c *Config) String() string {
	balancing := c.balancing()
	if balancing == c.oldBalancing {
		return c.text
	}
	text, err := serviceconfig.Merge(c.text, balancing)
	if err != nil {
		panic(err) // impossible, because both were parsed before
	}
	return text
}

// Linked returns an error if a config names a policy that clients do not link by default. Generated code also imports the policies
// that its proto file names, but etcd does not record these.
func Linked(c *serviceconfig.Config) error { return c.Linked(isLinked) }

// isLinked reports whether every client of this project links a policy.
func isLinked(policy string) bool {
	return policy == serviceconfig.EtcdName || serviceconfig.Ours(policy)
}

// DefaultPolicy is the child policy of a new live config if no other policy is requested.
const DefaultPolicy = "round_robin"

// PolicyNames returns the names that [ChildPolicy] accepts, the default first.
func PolicyNames() (names []string) {
	for _, p := range serviceconfig.Picking {
		names = append(names, p.Proto)
	}
	return names
}

// ChildPolicy parses a child policy: its name in the proto option, or JSON of one policy or of a list of policies.
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

// TooDeep reports whether JSON is nested deeper than a live config may be. Indented, such JSON would grow to hundreds of
// megabytes.
func TooDeep(text []byte) bool {
	return rawjson.Depth(text, serviceconfig.MaxDepth) > serviceconfig.MaxDepth
}

// AsJSON returns text as a JSON value: as it is or, if it is invalid or nested too deep, as a string.
func AsJSON(text string) any {
	if !TooDeep([]byte(text)) && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	return text
}

// Pretty returns indented JSON with sorted fields, so that equal configs have equal text. Text that is not JSON, or has a field
// twice, is returned escaped on one line: clients refuse it.
func Pretty(text []byte) string {
	if out, ok := normalized(text, "  "); ok {
		return out
	}
	return printable.Text(string(text))
}

// normalized returns JSON with sorted fields. ok is false if text is not JSON or nested too deep.
func normalized(text []byte, indent string) (_ string, ok bool) {
	if TooDeep(text) || !utf8.Valid(text) || !json.Valid(text) {
		return "", false
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return "", false
	}
	out, err := output.Marshal(v, indent)
	return string(out), err == nil
}
