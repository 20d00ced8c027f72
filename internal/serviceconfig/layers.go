package serviceconfig

import (
	"fmt"
	"maps"
	"strings"
)

// object is a JSON object. It may hold fields that are unknown here, because
// callers may pass any config.
type object = map[string]any

// parseLayer parses the fields of a config. Like gRPC, it accepts top-level
// names in any case, which it corrects, and ignores nulls.
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
		for _, known := range []string{policyField, configField, methodField,
			throttlingField, healthField} {
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

// Merge merges configs: each top-level field is taken as a whole from the last
// config that has it, except from an overlay. An overlay changes only the
// fields of "etcd" that it names, in the load balancing of the configs before
// it. "" is a config without fields. registered reports whether a policy is
// linked: gRPC uses the first linked policy of a list.
func Merge(registered func(policy string) bool, configs ...string) (string, error) {
	merged, err := merge(registered, configs)
	if err != nil {
		return "", err
	}

	out, err := marshal(merged)

	return string(out), err
}

func merge(registered func(policy string) bool, configs []string) (object, error) {
	merged := object{}
	for _, text := range configs {
		layer, err := parseLayer(text)
		if err != nil {
			return nil, err
		}

		if fields := overlay(layer); fields != nil {
			top, config, etcd, err := wrap(merged, registered)
			if err != nil {
				return nil, err
			}

			maps.Copy(etcd, fields)
			layer[configField] = []any{object{top: config}}
		}

		// policyField and configField mean the same. If one layer has both,
		// gRPC uses configField.
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

	return merged, nil
}

// overlay returns the fields of "etcd" that an overlay changes, nil if the
// config is not an overlay.
func overlay(layer object) object {
	policies, _ := objects(layer[configField])
	if len(policies) == 0 {
		return nil
	}

	first, _ := policies[0].(object)
	etcd, _ := first[EtcdName].(object)
	if _, whole := etcd[childField]; whole || len(first) > 1 {
		return nil
	}

	return etcd
}

// Wrapped is a service config that contains the policy "etcd".
type Wrapped struct {
	JSON   string
	Top    string // the policy at the top: "etcd", or a policy with "etcd" as its child
	Health string // the healthCheckConfig; "" if there is none
}

// Wrap merges configs as [Merge] does. It puts the load balancing policies, or
// round_robin if there are none, under the policy "etcd", as its childPolicy.
// An "etcd" at the top keeps its config. Outlier detection stays above "etcd".
// Only one policy remains at the top. When gRPC parses the result, "etcd"
// rejects a childPolicy that is not one of [Picking].
func Wrap(registered func(policy string) bool, configs ...string) (w Wrapped, err error) {
	layer, err := merge(registered, configs)
	if err != nil {
		return Wrapped{}, err
	}

	top, config, _, err := wrap(layer, registered)
	if err != nil {
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

	layer[configField] = []any{object{top: config}}
	out, err := marshal(layer)
	w.JSON = string(out)

	return w, err
}

// wrap returns the name and the config of the policy at the top of a wrapped
// config, and the config of "etcd" in it.
func wrap(
	layer object,
	registered func(policy string) bool,
) (top string, config, etcd object, err error) {
	p := place{faults: new(Faults)}
	policies := p.policies(layer)
	top, config, etcd = p.in(configField).wrap(policies, registered)

	return top, config, etcd, p.err()
}

// policies returns the load balancing policies of a config, round_robin if it
// has none.
func (p place) policies(layer object) []any {
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

	return []any{object{name: object{}}}
}

// objects returns a list, and whether its elements are objects.
func objects(v any) (list []any, ok bool) {
	list, ok = v.([]any)
	for _, element := range list {
		_, isObject := element.(object)
		ok = ok && isObject
	}

	return list, ok
}

func (p place) wrap(
	policies []any,
	registered func(policy string) bool,
) (top string, config, etcd object) {
	etcd = p.findEtcd(policies)
	if etcd != nil {
		return EtcdName, etcd, etcd
	}

	for i, v := range policies {
		entry, _ := v.(object)
		for name, config := range entry {
			switch {
			case len(entry) > 1 || !registered(name):
			case name == OutlierDetectionName:
				return p.in(index(i)).below(config)
			default:
				etcd = object{childField: policies[i : i+1]}
				return EtcdName, etcd, etcd
			}
		}
	}

	etcd = object{childField: policies} // gRPC will report that no entry can be used

	return EtcdName, etcd, etcd
}

// below puts "etcd" between outlier detection and its child policies. It checks
// the config of outlier detection as strictly as in a live config.
func (p place) below(detection any) (top string, config, etcd object) {
	p.policy(OutlierDetectionName, detection)
	config, _ = detection.(object)

	children, ok := objects(config[childField])
	if !ok {
		return OutlierDetectionName, nil, nil // a fault
	}

	etcd = p.in(OutlierDetectionName, childField).findEtcd(children)
	if etcd == nil {
		etcd = object{childField: children}
	}

	config[childField] = []any{object{EtcdName: etcd}}

	return OutlierDetectionName, config, etcd
}

// findEtcd returns the config of the policy "etcd" in a list, nil if there is
// none. "etcd" must be first, and alone in its entry.
func (p place) findEtcd(policies []any) (config object) {
	for i, v := range policies {
		entry, _ := v.(object)
		for name, v := range entry {
			switch {
			case !strings.EqualFold(name, EtcdName):
			case name != EtcdName:
				p.in(index(i)).fault("no policy is named %q: want %q", name, EtcdName)

			case i > 0 || len(entry) > 1:
				p.in(index(i)).fault(
					"the policy %q must be the first of the list, alone in its entry",
					EtcdName)

			case v == nil:
				config = object{}
			default:
				store(p.in(index(i), EtcdName), &config, v, "an object")
			}
		}
	}

	return config
}
