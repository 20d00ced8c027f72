// Package liveconfig parses the text of live configs, and edits their load
// balancing. It does not know the instances.
package liveconfig

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/etcdrpc/protoc-gen-go-etcd/cmd/etcdrpc/internal/output"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/printable"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
)

// Config is a live config whose load balancing is edited. The rest of its text
// is kept.
type Config struct {
	*serviceconfig.Config
	text, oldBalancing string // the parsed text and its load balancing, before any edit
}

// Parse parses a live config. "" is the empty config.
func Parse(text string) (*Config, error) {
	c := &Config{Config: new(serviceconfig.Config), text: text}
	if text == "" {
		return c, nil
	}

	var err error
	c.Config, err = serviceconfig.ParseLive(text)
	if err != nil {
		return nil, err
	}

	c.oldBalancing = c.balancing()

	if etcd := c.Etcd(); etcd != nil && len(etcd.Drain) > 0 {
		etcd.EndDrains(time.Now())

		if len(etcd.Drain) == 0 {
			etcd.Drain = nil
		}
	}

	return c, nil
}

// Policy returns the policy "etcd" of a config, or an empty one if there is
// none.
func Policy(c *serviceconfig.Config) serviceconfig.Etcd {
	return *cmp.Or(c.Etcd(), new(serviceconfig.Etcd))
}

// Replaces reports whether a config replaces all of the load balancing of the
// proto file. An overlay changes only what it names.
func Replaces(c *serviceconfig.Config) bool {
	return len(c.LoadBalancing) > 0 &&
		(c.LoadBalancing[0].Name != serviceconfig.EtcdName || c.Etcd().ChildPolicy != nil)
}

// EnsureEtcd returns the policy "etcd". If there is none, EnsureEtcd adds one
// above the present policies, but below outlier detection. Without present
// policies, the new policy is an overlay.
func (c *Config) EnsureEtcd() (*serviceconfig.Etcd, error) {
	if policy := c.Etcd(); policy != nil {
		return policy, nil
	}

	above := &c.LoadBalancing
	for _, p := range c.LoadBalancing {
		detection, ok := p.Config.(*serviceconfig.OutlierDetection)
		switch {
		case ok && len(c.LoadBalancing) > 1:
			return nil, fmt.Errorf("the live config lists %q and other policies, so %q cannot be added below it: write that policy with policy set",
				p.Name, serviceconfig.EtcdName)
		case ok:
			above = &detection.ChildPolicy
		}
	}

	policy := &serviceconfig.Etcd{ChildPolicy: *above}
	*above = []serviceconfig.Policy{{Name: serviceconfig.EtcdName, Config: policy}}

	return policy, nil
}

// balancing returns the load balancing part of the config as normalized text.
func (c *Config) balancing() string {
	config := serviceconfig.Config{LoadBalancing: c.LoadBalancing}
	text, _ := normalized([]byte(config.JSON()), "")

	return text
}

// String returns the edited text. It omits an overlay that changes nothing, and
// returns "" for an empty config.
func (c *Config) String() string {
	if c.balancing() == c.oldBalancing {
		return c.text
	}

	if !Replaces(c.Config) && reflect.DeepEqual(Policy(c.Config), serviceconfig.Etcd{}) {
		c.LoadBalancing = nil
	}

	fields := make(map[string]json.RawMessage)
	err := json.Unmarshal([]byte(cmp.Or(c.text, "{}")), &fields)
	delete(fields, "loadBalancingPolicy")
	delete(fields, "loadBalancingConfig")

	err = errors.Join(err, json.Unmarshal([]byte(c.balancing()), &fields))
	if err != nil {
		panic(err) // impossible, because both were parsed before
	}

	if len(fields) == 0 {
		return ""
	}

	text, _ := output.Marshal(fields, "")

	return string(text)
}

// Linked returns an error if a config names a policy that clients do not link
// by default. Generated code also imports the policies that its proto file
// names, but etcd does not record these.
func Linked(c *serviceconfig.Config) error {
	return c.Linked(isLinked)
}

// isLinked reports whether every client of this project links a policy.
func isLinked(policy string) bool {
	isNamed := func(rule serviceconfig.PolicyRule) bool { return rule.Name == policy }
	return policy == serviceconfig.EtcdName || slices.ContainsFunc(serviceconfig.Picking, isNamed)
}

// TooDeep reports whether JSON is nested deeper than a live config may be.
// Indented, such JSON would grow to hundreds of megabytes.
func TooDeep(text []byte) bool {
	return rawjson.Depth(text, serviceconfig.MaxDepth) > serviceconfig.MaxDepth
}

// AsJSON returns text as a JSON value: as it is or, if it is invalid or nested
// too deep, as a string.
func AsJSON(text string) any {
	if !TooDeep([]byte(text)) && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}

	return text
}

// Pretty returns indented JSON with sorted fields, so that equal configs have
// equal text. Text that is not JSON, or has a field twice, is returned escaped
// on one line: clients refuse it.
func Pretty(text []byte) string {
	if out, ok := normalized(text, "  "); ok {
		return out
	}

	return printable.Text(string(text))
}

// normalized returns JSON with sorted fields. ok is false if text is not JSON
// or nested too deep.
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
