package serviceconfig

import (
	"fmt"
	"maps"
	"strings"
)

// object is a JSON object. It may hold fields and policies that are unknown here, because callers may pass any config.
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
	Alone  *Alone // nil if a policy of [Ours] picks
}

// Alone is a policy of another package. It takes the place of "etcd", because it makes connections of its own.
type Alone struct {
	Name string
	JSON string // the service config with the policy in the place of "etcd"
	Etcd *Etcd  // the config of "etcd", whose drain the resolver follows
}

// ForGRPC returns the config with the policy that picks: that of Alone or, if Alone is nil, "etcd".
func (w *Wrapped) ForGRPC() string {
	if w.Alone != nil {
		return w.Alone.JSON
	}
	return w.JSON
}

// Wrap puts a config's load balancing policies, or round_robin if it has none, under the policy "etcd", as its childPolicy. An
// "etcd" at the top keeps its config. Outlier detection stays above "etcd", and so does a policy whose childPolicy names "etcd".
// Only one policy remains at the top: the first of the list that is registered.
func Wrap(text string, registered func(policy string) bool) (w Wrapped, err error) {
	layer, err := parseLayer(text)
	if err != nil {
		return Wrapped{}, err
	}
	p := place{faults: new(faults), custom: true}
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
	entry := object{top: config}
	if w.JSON, err = withPolicy(layer, entry); err != nil {
		return Wrapped{}, err
	}
	if w.Alone = standAlone(entry, top, registered); w.Alone != nil {
		w.Alone.JSON, err = withPolicy(layer, entry)
	}
	return w, err
}

// withPolicy returns the JSON of a config with entry as its only policy.
func withPolicy(layer, entry object) (string, error) {
	layer[configField] = []object{entry}
	out, err := marshal(layer)
	return string(out), err
}

// standAlone returns the policy below "etcd", put in the place of "etcd", if it is of another package, and nil otherwise. entry has
// only the policy top, which is "etcd" or has "etcd" in its childPolicy. A config with faults is left to gRPC, which reports them.
func standAlone(entry object, top string, registered func(policy string) bool) *Alone {
	if top != EtcdName {
		entry = entry[top].(object)[childField].([]object)[0]
	}
	text, err := marshal(entry[EtcdName])
	if err != nil {
		return nil
	}
	etcd, err := ParseEtcd(text)
	if err != nil {
		return nil
	}
	child, err := FirstLinked(etcd.ChildPolicy, registered)
	if err != nil || Ours(child.Name) {
		return nil
	}
	delete(entry, EtcdName)
	entry[child.Name] = child.Config
	return &Alone{Name: child.Name, Etcd: etcd}
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
