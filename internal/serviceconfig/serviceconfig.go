// Package serviceconfig merges and checks gRPC service configs in their JSON form.
//
// The form is that of https://github.com/grpc/grpc/blob/master/doc/service_config.md. gRPC's own
// parser takes much that it then ignores, or takes for something else; Check does not.
package serviceconfig

import (
	"encoding/json"
	"errors"
	"fmt"
)

const (
	policyField = "loadBalancingPolicy" // deprecated, by name alone
	configField = "loadBalancingConfig"
)

type object = map[string]json.RawMessage

func parseObject(text string) (object, error) {
	if text == "" {
		return object{}, nil
	}
	var o object
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return nil, fmt.Errorf("the service config is not a JSON object: %w", err)
	}
	if o == nil {
		return nil, errors.New("the service config is null: want a JSON object")
	}
	return o, nil
}

// Merge lays each config over the ones before it, top-level field by field: a field is taken
// whole from the last config that has it. "" is a config without fields.
func Merge(configs ...string) (string, error) {
	merged := object{}
	for _, text := range configs {
		o, err := parseObject(text)
		if err != nil {
			return "", err
		}
		// The two fields say one thing, and gRPC would go by the lower layer's configField.
		if _, ok := o[policyField]; ok {
			delete(merged, configField)
		}
		for field, value := range o {
			merged[field] = value
		}
	}
	out, err := json.Marshal(merged)
	return string(out), err
}

// Wrap puts the config's load balancing policy under the policy of the given name, as its
// childPolicy. A config that has that policy already is left as it is; one that has none gets
// round_robin.
func Wrap(text, policy string) (string, error) {
	o, err := parseObject(text)
	if err != nil {
		return "", err
	}
	var child []object
	if raw, ok := o[configField]; ok {
		if err := json.Unmarshal(raw, &child); err != nil {
			return "", fmt.Errorf("%s: %w", configField, err)
		}
	}
	if len(child) == 0 {
		name := "round_robin"
		if raw, ok := o[policyField]; ok {
			if err := json.Unmarshal(raw, &name); err != nil {
				return "", fmt.Errorf("%s: %w", policyField, err)
			}
		}
		child = []object{{name: json.RawMessage("{}")}}
	}
	delete(o, policyField)
	if _, ok := child[0][policy]; !ok {
		wrapped, err := json.Marshal([]map[string]any{{policy: map[string]any{"childPolicy": child}}})
		if err != nil {
			return "", err
		}
		o[configField] = wrapped
	}
	out, err := json.Marshal(o)
	return string(out), err
}
