package record

import (
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// oneOfALane is the subset that a caller may be left with by lanes: a single instance may be in one, or in none.
const oneOfALane = 1

// Drained returns the names that the live config drains, whatever instances there are.
func (r *Record) Drained() []string {
	live, _ := r.Etcd.Get(acme.ConfigKey)
	names, depends := acme.DrainOf(live.Value)
	if depends {
		return nil
	}
	return names
}

// drain has the judge hear what a live config drains, if there is one. While it is a bad one, callers keep the last good one. It
// must be called with mu held.
func (r *Record) drain(config string, live bool) {
	switch {
	case !live:
		r.judge.Drain(time.Now())
	case !schedule.BadConfig(config):
		names, _ := acme.DrainOf(config)
		r.judge.Drain(time.Now(), names...)
	}
}

// InForce reports whether callers are to use a live service config, given what etcd has. They keep what they have while that is
// bad.
func (r *Record) InForce(config string) bool {
	live, ok := r.Etcd.Get(acme.ConfigKey)
	if !ok {
		return config == ""
	}
	return schedule.BadConfig(live.Value) || acme.Holds(config, live.Value)
}

// Policy returns the service config that decides how the calls of a caller are shared out, whose own is generated. While etcd
// has a bad one, that is the last good one that the caller has seen, which is not known.
func (r *Record) Policy(generated string) (config string, known bool) {
	switch live, ok := r.Etcd.Get(acme.ConfigKey); {
	case !ok:
		return generated, true
	case schedule.BadConfig(live.Value):
		return "", false
	case strings.Contains(live.Value, "loadBalancingConfig"):
		return live.Value, true
	default:
		return generated, true // the live one leaves this field alone
	}
}

// Methods returns what the config in force says of methods. While etcd has a bad one, it is not known.
func (r *Record) Methods(generated string) (m acme.Methods, known bool) {
	live, ok := r.Etcd.Get(acme.ConfigKey)
	return acme.MethodsOf(live.Value, generated), !ok || !schedule.BadConfig(live.Value)
}

// Waits reports whether calls wait for an instance that is ready, or may.
func (r *Record) Waits(generated string) bool {
	now, known := r.Methods(generated)
	return now.Waits || !known
}

// LongestWait returns how long a call of the shop may take by the method's timeout, 0 if none bounds it. A caller that may not
// have heard of the live config may go by any that etcd has had.
func (r *Record) LongestWait(generated string, settled bool) time.Duration {
	now, known := r.Methods(generated)
	if settled && known {
		return now.Timeout
	}
	longest := acme.MethodsOf(generated).Timeout
	for _, config := range r.configs() {
		timeout := acme.MethodsOf(config, generated).Timeout
		if longest == 0 || timeout == 0 {
			return 0
		}
		longest = max(longest, timeout)
	}
	return longest
}

// configs returns the good live configs that there have been.
func (r *Record) configs() (configs []string) {
	for _, c := range r.Since(r.Began) {
		if c.Key == acme.ConfigKey && !c.Delete && !schedule.BadConfig(c.Value) {
			configs = append(configs, c.Value)
		}
	}
	return configs
}

// any reports whether a policy that may be in force for a caller is of a kind.
func (r *Record) any(generated string, is func(acme.Policy) bool) bool {
	return slices.ContainsFunc(append(r.configs(), generated), func(config string) bool {
		p, err := acme.ParsePolicy(config)
		return err == nil && is(p)
	})
}

// Routed reports whether routes may decide where the calls of a caller go.
func (r *Record) Routed(generated string) bool {
	return r.any(generated, func(p acme.Policy) bool { return len(p.Routes) > 0 })
}

// Blind reports whether a policy that knows nothing of methods may pick for a caller.
func (r *Record) Blind(generated string) bool {
	return r.any(generated, func(p acme.Policy) bool { return p.Others })
}

// Bounds reports whether calls under way may be bounded by a config that may be in force for a caller.
func (r *Record) Bounds(generated string) bool {
	return r.any(generated, func(p acme.Policy) bool { return p.Most > 0 })
}

// Spills reports whether a part of the calls may leave a region that serves, by a config that may be in force for a caller.
func (r *Record) Spills(generated string) bool {
	return r.any(generated, func(p acme.Policy) bool { return p.ZoneLeast > 0 })
}

// Ejects reports whether an instance may be left out by outlier detection that may be in force for a caller.
func (r *Record) Ejects(generated string) bool {
	return r.any(generated, func(p acme.Policy) bool { return p.Ejects })
}

// Strict reports whether a route that may be in force for a caller is.
func (r *Record) Strict(generated string) bool { return r.any(generated, acme.Policy.Strict) }

// Subset returns the least number of instances that a caller may use by all configs that it may go by, 0 for all. With lanes
// that is one.
func (r *Record) Subset(c schedule.Caller) int {
	if r.Routed(c.Config()) {
		return oneOfALane
	}
	least := acme.SubsetOf(c.Subset, c.Config())
	for _, config := range r.configs() {
		least = acme.SubsetOf(least, config)
	}
	return least
}

// Quiet reports whether neither the live config has changed lately nor all of etcd.
func (r *Record) Quiet() bool {
	for _, c := range r.Since(time.Now().Add(-Promptly)) {
		if strings.HasPrefix(c.Key, acme.Configs) {
			return false
		}
	}
	return !r.ResetSince(time.Now().Add(-Aftermath))
}
