package acme

import (
	"encoding/json"
	"slices"
	"time"
)

// Policy is the part of a service config that decides how calls are shared out.
type Policy struct {
	Below      string // the policy below
	Split      []Group
	Drains     bool
	PreferZone bool
	Subset     int // 0: all
	Routes     []Route
}

// Group is one of a split's.
type Group struct {
	Match  map[string]string
	Weight float64
}

// Route says which addresses are in which lanes.
type Route struct {
	Lane   string
	Match  map[string]string
	Label  string
	Strict bool
}

// The policies that share calls out exactly.
const (
	RoundRobin = "round_robin"
	Weighted   = "etcd_weighted"
)

// Exact reports whether the policy below shares calls out exactly.
func (p Policy) Exact() bool { return p.Below == RoundRobin || p.Below == Weighted }

// Strict reports whether the policy has a route that is.
func (p Policy) Strict() bool {
	return slices.ContainsFunc(p.Routes, func(r Route) bool { return r.Strict })
}

// ParsePolicy reads a service config.
func ParsePolicy(config string) (Policy, error) {
	p := Policy{Below: RoundRobin}
	var parsed struct {
		LoadBalancingConfig []map[string]struct {
			Split       []Group
			Drain       []string
			PreferZone  bool
			Subset      int
			Route       []Route
			ChildPolicy []map[string]any
		}
	}
	if config == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(config), &parsed); err != nil || len(parsed.LoadBalancingConfig) == 0 {
		return p, err
	}
	top := parsed.LoadBalancingConfig[0]
	etcd, ok := top["etcd"]
	if !ok {
		p.Below = onlyKey(top)
		return p, nil
	}
	p.Split, p.Drains, p.PreferZone = etcd.Split, len(etcd.Drain) > 0, etcd.PreferZone
	p.Subset, p.Routes = etcd.Subset, etcd.Route
	if len(etcd.ChildPolicy) > 0 {
		p.Below = onlyKey(etcd.ChildPolicy[0])
	}
	return p, nil
}

func onlyKey[V any](m map[string]V) (key string) {
	for key = range m {
	}
	return key
}

// SubsetOf returns how many instances a client uses that is given a number and a service config, 0 for all.
func SubsetOf(given int, config string) int {
	p, err := ParsePolicy(config)
	if err != nil || p.Subset == 0 || given > 0 && given < p.Subset {
		return given
	}
	return p.Subset
}

// Methods is what a service config says of all methods.
type Methods struct {
	Timeout time.Duration // 0: none
	Waits   bool          // for an instance that is ready
}

// MethodsOf returns what the first of these service configs that says anything of methods says of them.
func MethodsOf(configs ...string) Methods {
	for _, config := range configs {
		var parsed struct {
			MethodConfig []struct {
				Timeout      string
				WaitForReady bool
			}
		}
		if err := json.Unmarshal([]byte(config), &parsed); err != nil || len(parsed.MethodConfig) == 0 {
			continue
		}
		m := parsed.MethodConfig[0]
		timeout, _ := time.ParseDuration(m.Timeout) // none if it says none
		return Methods{timeout, m.WaitForReady}
	}
	return Methods{}
}

// Holds reports whether a service config holds all that another says: the one in force has the defaults filled in.
func Holds(config, said string) bool {
	var have, want any
	if json.Unmarshal([]byte(config), &have) != nil || json.Unmarshal([]byte(said), &want) != nil {
		return false
	}
	return includes(have, want)
}

func includes(have, want any) bool {
	switch want := want.(type) {
	case map[string]any:
		fields, ok := have.(map[string]any)
		for name, value := range want {
			ok = ok && includes(fields[name], value)
		}
		return ok
	case []any:
		list, ok := have.([]any)
		ok = ok && len(list) == len(want)
		for i := range want {
			ok = ok && includes(list[i], want[i])
		}
		return ok
	default:
		return have == want
	}
}
