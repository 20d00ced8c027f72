package serviceconfig

import (
	"fmt"
	"maps"
	"strings"
)

// object is a JSON object. It may hold fields that are unknown here, because callers may pass any config.
type object = map[string]any

// parseLayer parses the fields of a config. Like gRPC, it accepts top-level names in any case, which it corrects, and ignores nulls.
func parseLayer(text string) (object, error) {
	layer := object{}
	if text == "" {
		return layer, nil
	}
	o, err := parseObject(text)
	if err != nil {
		return nil, err
	}
	for name, v := range o {
		for _, known := range []string{policyField, configField, methodField, throttlingField, healthField} {
			if strings.EqualFold(name, known) {
				name = known
			}
		}
		if _, twice := layer[name]; twice {
			return nil, fmt.Errorf("the service config has the field %.80q twice", name)
		}
		if v != nil {
			layer[name] = v
		}
	}
	return layer, nil
}

// Merge merges configs: each top-level field is taken as a whole from the last config that has it. "" is a config without fields.
func Merge(configs ...string) (string, error) {
	merged := object{}
	for _, text := range configs {
		layer, err := parseLayer(text)
		if err != nil {
			return "", err
		}
		// policyField and configField mean the same. If one layer has both, gRPC uses configField.
		_, byName := layer[policyField]
		_, byConfig := layer[configField]
		if byName || byConfig {
			delete(merged, policyField)
			delete(merged, configField)
		}
		if byConfig {
			delete(layer, policyField)
		}
		maps.Copy(merged, layer)
	}
	out, err := marshal(merged)
	return string(out), err
}

// Wrapped is a service config that contains the policy "etcd".
type Wrapped struct {
	JSON   string
	Top    string // the policy at the top: "etcd", or one that has "etcd" as its child
	Health string // the healthCheckConfig; "" if there is none
}

// Wrap puts a config's load balancing policies, or round_robin if it has none, under the policy "etcd", as its childPolicy. An
// "etcd" at the top keeps its config. Outlier detection stays above "etcd", and so does a policy whose childPolicy names "etcd".
// Only one policy remains at the top: the first of the list that is registered. gRPC then lets "etcd" refuse a childPolicy that is not
// one of [Picking].
func Wrap(text string, registered func(policy string) bool) (w Wrapped, err error) {
	layer, err := parseLayer(text)
	if err != nil {
		return Wrapped{}, err
	}
	p := place{faults: new(faults)}
	top, config := p.in(configField).wrap(p.policies(layer), registered)
	if err := p.err(); err != nil {
		return Wrapped{}, err
	}
	w.Top = top
	delete(layer, policyField)
	if health, ok := layer[healthField]; ok {
		text, err := marshal(health)
		if err != nil {
			return Wrapped{}, err
		}
		w.Health = string(text)
	}
	layer[configField] = []object{{top: config}}
	out, err := marshal(layer)
	w.JSON = string(out)
	return w, err
}

// policies returns the load balancing policies of a config, round_robin if it has none.
func (p place) policies(layer object) []object {
	if v, ok := layer[configField]; ok {
		policies, ok := objects(v)
		if !ok {
			p.in(configField).wants("a list of policies", v)
		}
		if len(policies) > 0 {
			return policies
		}
	}
	name := RoundRobinName
	if v, ok := layer[policyField]; ok {
		store(p.in(policyField), &name, v, "a string")
	}
	return []object{{name: object{}}}
}

// objects returns the elements of a list of objects.
func objects(v any) (list []object, ok bool) {
	elements, ok := v.([]any)
	for _, element := range elements {
		o, isObject := element.(object)
		list, ok = append(list, o), ok && isObject
	}
	return list, ok
}

// wrap returns the name and the config of the policy at the top of a wrapped config.
func (p place) wrap(policies []object, registered func(policy string) bool) (top string, config any) {
	if config := p.findEtcd(policies); config != nil {
		return EtcdName, config
	}
	for i, entry := range policies {
		for name, config := range entry {
			if len(entry) > 1 || !registered(name) {
				continue
			}
			if config := p.in(index(i)).above(name, config); config != nil {
				return name, config
			}
			return EtcdName, object{childField: policies[i : i+1]}
		}
	}
	return EtcdName, object{childField: policies} // gRPC will report that no entry can be used
}

// above returns the config of a policy that stays above "etcd", with "etcd" in its childPolicy; nil if the policy does not stay.
func (p place) above(policy string, config any) any {
	if policy == OutlierDetectionName {
		// The config is decoded as strictly as in a live config.
		p.policy(policy, config)
	}
	o, _ := config.(object)
	children, ok := objects(o[childField])
	if !ok {
		return nil // the policy itself checks its config
	}
	switch found := p.in(policy, childField).findEtcd(children); {
	case found != nil:
		o[childField] = []object{{EtcdName: found}}
		return config
	case policy == OutlierDetectionName:
		o[childField] = []object{{EtcdName: object{childField: children}}}
		return config
	}
	return nil
}

// findEtcd returns the config of the policy "etcd" in a list, nil if there is none. "etcd" must be first, and alone in its entry.
func (p place) findEtcd(policies []object) (config any) {
	for i, entry := range policies {
		for name, v := range entry {
			switch {
			case !strings.EqualFold(name, EtcdName):
			case name != EtcdName:
				p.in(index(i)).fault("no policy is named %q: want %q", name, EtcdName)
			case i > 0 || len(entry) > 1:
				p.in(index(i)).fault("the policy %q must be the first of the list, alone in its entry", EtcdName)
			case v == nil:
				config = object{}
			default:
				config = v
			}
		}
	}
	return config
}
