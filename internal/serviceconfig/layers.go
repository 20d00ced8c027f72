package serviceconfig

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/rawjson"
)

// object is a JSON object that is only partly understood: the caller's own configs may have policies
// that are not described here, and fields that are newer than this package.
type object = map[string]json.RawMessage

// parseLayer reads the fields of a config. gRPC takes field names in any case, and ignores null; so
// parseLayer corrects the case of names, and leaves nulls out.
func parseLayer(text string) (object, error) {
	o := object{}
	if text == "" {
		return o, nil
	}
	v, err := parseText(text)
	if err != nil {
		return nil, err
	}
	rawjson.Members(v.raw, func(rawName, raw []byte) bool {
		name := string(rawName)
		for known := range documentFields {
			if strings.EqualFold(name, known) {
				name = known
			}
		}
		if _, twice := o[name]; twice {
			err = fmt.Errorf("the service config has the field %.80q twice", name)
		}
		if string(raw) != "null" {
			o[name] = raw
		}
		return err == nil
	})
	return o, err
}

// Merge lays each config over the ones before it: each top-level field is taken whole from the last
// config that has it. "" is a config without fields.
func Merge(configs ...string) (string, error) {
	merged := object{}
	for _, text := range configs {
		o, err := parseLayer(text)
		if err != nil {
			return "", err
		}
		// The two fields mean the same. Within a layer gRPC uses configField.
		_, byName := o[policyField]
		_, byConfig := o[configField]
		if byName || byConfig {
			delete(merged, policyField)
			delete(merged, configField)
		}
		if byConfig {
			delete(o, policyField)
		}
		for field, raw := range o {
			merged[field] = raw
		}
	}
	out, err := marshal(merged)
	return string(out), err
}

// Wrapped is a service config of which the policy "etcd" is a part.
type Wrapped struct {
	JSON   string
	Top    string // the policy at the top: "etcd", or one with "etcd" directly below it
	Health string // the healthCheckConfig; "": none
}

// Wrap puts a config's load balancing policies, or round_robin if it has none, under the policy "etcd", as its
// childPolicy. An "etcd" at the top keeps its config. Outlier detection stays above "etcd", and so does a policy whose
// childPolicy names "etcd". In each case one policy remains at the top: of a list, the first that is registered.
func Wrap(text string, registered func(policy string) bool) (Wrapped, error) {
	o, err := parseLayer(text)
	if err != nil {
		return Wrapped{}, err
	}
	policies, err := policiesOf(o)
	if err != nil {
		return Wrapped{}, err
	}
	top, config, err := wrap(policies, registered)
	if err != nil {
		return Wrapped{}, in(configField, err)
	}
	delete(o, policyField)
	if o[configField], err = marshal([]object{{top: config}}); err != nil {
		return Wrapped{}, err
	}
	out, err := marshal(o)
	return Wrapped{string(out), top, string(o[healthField])}, err
}

// wrap returns the policy to stand at the top instead of policies, and its config.
func wrap(policies []object, registered func(policy string) bool) (top string, config json.RawMessage, err error) {
	config, found, err := findEtcd(policies)
	if err != nil || found {
		return EtcdName, config, err
	}
	for i, entry := range policies {
		for name, raw := range entry {
			if len(entry) > 1 || !registered(name) {
				continue
			}
			config, err := above(name, raw)
			if err != nil {
				return "", nil, in(fmt.Sprintf("[%d]", i), err)
			}
			if config != nil {
				return name, config, nil
			}
			return underEtcd(policies[i : i+1])
		}
	}
	return underEtcd(policies) // which says what is wrong with them
}

func underEtcd(policies []object) (top string, config json.RawMessage, err error) {
	config, err = marshal(map[string]any{childField: policies})
	return EtcdName, config, err
}

// above returns the config of a policy that stays above "etcd", with that in its childPolicy; nil if it does not stay.
func above(policy string, raw json.RawMessage) (json.RawMessage, error) {
	if policy == OutlierDetectionName {
		// Below "etcd" its config would be read as strictly.
		if _, err := readPolicy(policy, value{raw: raw, trusted: true}, top); err != nil {
			return nil, err
		}
	}
	var config object
	var children []object
	if json.Unmarshal(raw, &config) != nil || json.Unmarshal(config[childField], &children) != nil {
		return nil, nil // it is not for us to say what the config of such a policy is
	}
	_, found, err := findEtcd(children)
	if err != nil {
		return nil, in(policy, in(childField, err))
	}
	switch {
	case found:
		return raw, nil
	case policy != OutlierDetectionName:
		return nil, nil
	}
	name, below, err := underEtcd(children)
	if err != nil {
		return nil, err
	}
	if config[childField], err = marshal([]object{{name: below}}); err != nil {
		return nil, err
	}
	return marshal(config)
}

// policiesOf returns the load balancing policies of a config, round_robin if it has none.
func policiesOf(o object) ([]object, error) {
	var policies []object
	if raw, ok := o[configField]; ok {
		if err := json.Unmarshal(raw, &policies); err != nil {
			return nil, fmt.Errorf("%s: %w", configField, err)
		}
	}
	if len(policies) > 0 {
		return policies, nil
	}
	name := RoundRobinName
	if raw, ok := o[policyField]; ok {
		if err := json.Unmarshal(raw, &name); err != nil {
			return nil, fmt.Errorf("%s: %w", policyField, err)
		}
	}
	return []object{{name: json.RawMessage("{}")}}, nil
}

// findEtcd returns the config of the policy "etcd" in a list. It may stand there only first, alone in its entry.
func findEtcd(policies []object) (config json.RawMessage, found bool, err error) {
	for i, entry := range policies {
		for name, raw := range entry {
			switch {
			case !strings.EqualFold(name, EtcdName):
			case name != EtcdName:
				return nil, false, in(fmt.Sprintf("[%d]", i), fmt.Errorf("no policy is named %q: want %q", name, EtcdName))
			case i > 0 || len(entry) > 1:
				return nil, false, in(fmt.Sprintf("[%d]", i), fmt.Errorf("the policy %q must be the first of the list, alone in its entry", EtcdName))
			case string(raw) == "null":
				config, found = json.RawMessage("{}"), true
			default:
				config, found = raw, true
			}
		}
	}
	return config, found, nil
}
