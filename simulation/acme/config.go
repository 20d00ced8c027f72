package acme

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// Policy is the load balancing part of a service config.
type Policy struct {
	schedule.Way `json:"-"` // without a name if the config cannot be read
	Split        []Group
	Drain        []string // names
	Least        int      `json:"minHealthyPercent"` // the percentage of the instances that a drain must leave
	PreferZone   bool
	ZoneLeast    int     `json:"zoneMinPercent"` // the percentage of a zone's instances that must be ready for all calls to stay
	Subset       int     // 0: all
	Most         int     `json:"maxConcurrentRequests"` // calls under way at an instance; 0: any number
	Routes       []Route `json:"route"`
	Ejects       bool    `json:"-"` // it may eject one instance
}

// Group is one group of a split.
type Group struct {
	Match  map[string]string
	Weight float64
}

// Route maps addresses to lanes.
type Route struct {
	Lane   string
	Match  map[string]string
	Label  string
	Strict bool
}

// ParsePolicy reads a service config. The policy is cached and shared.
func ParsePolicy(config string) Policy { return recall("policy", config, readPolicy) }

func readPolicy(config string) (p Policy) {
	layers, way := schedule.Layers(cmp.Or(config, "{}"))
	if json.Unmarshal([]byte(cmp.Or(string(layers["etcd"]), "{}")), &p) != nil {
		return Policy{}
	}
	_, p.Ejects = layers["outlier_detection_experimental"]
	p.Way = way
	return p
}

// Methods are the settings of a service config for all methods.
type Methods struct {
	Timeout time.Duration // 0: none
	Waits   bool          // for an instance that is ready
}

// MethodsOf returns the method settings of the first of these service configs that has any.
func MethodsOf(configs ...string) (m Methods) {
	for _, config := range configs {
		if m = recall("methods", config, readMethods); m != (Methods{}) {
			break
		}
	}
	return m
}

func readMethods(config string) Methods {
	var parsed struct {
		MethodConfig []struct {
			Timeout      string
			WaitForReady bool
		}
	}
	if err := json.Unmarshal([]byte(config), &parsed); err != nil || len(parsed.MethodConfig) == 0 {
		return Methods{}
	}
	m := parsed.MethodConfig[0]
	timeout, _ := time.ParseDuration(m.Timeout) // 0 if it is missing
	return Methods{timeout, m.WaitForReady}
}

// Holds reports whether a service config contains all fields of another. The config in force also has the defaults.
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
