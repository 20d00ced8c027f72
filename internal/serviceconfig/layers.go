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

// Wrap puts the config's load balancing policies, or round_robin if it has none, under the policy of the
// given name, as its childPolicy. If the config has that policy already, it keeps its config. Either way
// it is then the only policy at the top.
func Wrap(text, policy string) (string, error) {
	o, err := parseLayer(text)
	if err != nil {
		return "", err
	}
	child, err := policiesOf(o)
	if err != nil {
		return "", err
	}
	config, found, err := findPolicy(child, policy)
	if err != nil {
		return "", err
	}
	if !found {
		if config, err = marshal(map[string]any{childField: child}); err != nil {
			return "", err
		}
	}
	delete(o, policyField)
	if o[configField], err = marshal([]object{{policy: config}}); err != nil {
		return "", err
	}
	out, err := marshal(o)
	return string(out), err
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

// findPolicy returns the config of a policy in a list. It may stand there only first, alone in its entry.
func findPolicy(policies []object, policy string) (config json.RawMessage, found bool, err error) {
	for i, entry := range policies {
		for name, raw := range entry {
			switch {
			case !strings.EqualFold(name, policy):
			case name != policy:
				return nil, false, fmt.Errorf("%s[%d]: no policy is named %q: want %q", configField, i, name, policy)
			case i > 0 || len(entry) > 1:
				return nil, false, fmt.Errorf("%s[%d]: the policy %q must be the first of the list, alone in its entry", configField, i, policy)
			case string(raw) == "null":
				config, found = json.RawMessage("{}"), true
			default:
				config, found = raw, true
			}
		}
	}
	return config, found, nil
}
