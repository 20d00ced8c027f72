package world

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// wanted is the part of the calls that an address should get.
type wanted struct {
	part  float64
	exact bool // else any part is as good, unless it should be 0
}

// The policies that share calls out exactly.
const (
	roundRobin = "round_robin"
	weighted   = "etcd_weighted"
)

// policy is the part of a service config that decides how calls are shared out.
type policy struct {
	below      string // the policy below
	split      []group
	drains     bool
	preferZone bool
	subset     int // 0: all
	routes     []route
}

type group struct {
	Match  map[string]string
	Weight float64
}

// parsePolicy reads a service config.
func parsePolicy(config string) (policy, error) {
	p := policy{below: roundRobin}
	var parsed struct {
		LoadBalancingConfig []map[string]struct {
			Split       []group
			Drain       []string
			PreferZone  bool
			Subset      int
			Route       []route
			ChildPolicy []map[string]any
		}
	}
	if config == "" {
		return p, nil
	}
	if err := json.Unmarshal([]byte(config), &parsed); err != nil {
		return p, err
	}
	if len(parsed.LoadBalancingConfig) == 0 {
		return p, nil
	}
	top := parsed.LoadBalancingConfig[0]
	etcd, ok := top["etcd"]
	if !ok {
		p.below = onlyKey(top)
		return p, nil
	}
	p.split, p.drains, p.preferZone = etcd.Split, len(etcd.Drain) > 0, etcd.PreferZone
	p.subset, p.routes = etcd.Subset, etcd.Route
	if len(etcd.ChildPolicy) > 0 {
		p.below = onlyKey(etcd.ChildPolicy[0])
	}
	return p, nil
}

func onlyKey[V any](m map[string]V) (key string) {
	for key = range m {
	}
	return key
}

// shares returns the part of the calls that each address should get under a service config, nil if that is not known.
func (w *World) shares(zone, config string, serving []string) map[string]wanted {
	p, err := parsePolicy(config)
	if err != nil || p.drains { // drains are checked by themselves
		return nil
	}
	groups, weights := w.groups(p, w.outside(p.routes, serving))
	total := 0.0
	for _, weight := range weights {
		total += weight
	}
	if total == 0 {
		return nil // all instances share the calls of a split that matches none
	}
	shares := make(map[string]wanted)
	for _, addr := range serving {
		shares[addr] = wanted{}
	}
	for i, weight := range weights {
		if p.preferZone {
			groups[i] = w.preferred(zone, groups[i])
		}
		if weight > 0 {
			maps.Copy(shares, w.spread(groups[i], p.below, weight/total))
		}
	}
	return shares
}

// groups returns the addresses in each group of the policy's split, and the weights of the groups that are not empty. Without
// a split, all are one group.
func (w *World) groups(p policy, serving []string) (groups [][]string, weights []float64) {
	if len(p.split) == 0 {
		return [][]string{serving}, []float64{1}
	}
	for _, g := range p.split {
		addrs := slices.DeleteFunc(slices.Clone(serving), func(addr string) bool { return !w.matches(g, addr) })
		weight := g.Weight
		if len(addrs) == 0 {
			weight = 0
		}
		groups, weights = append(groups, addrs), append(weights, weight)
	}
	return groups, weights
}

// matches reports whether an address is in a group.
func (w *World) matches(g group, addr string) bool {
	for field, value := range g.Match {
		if w.attribute(addr, field) != value {
			return false
		}
	}
	return true
}

// preferred returns the addresses in a zone, all if none is.
func (w *World) preferred(zone string, addrs []string) []string {
	near := slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool { return zone == "" || w.attribute(addr, "zone") != zone })
	if len(near) == 0 {
		return addrs
	}
	return near
}

// spread shares a part of the calls out among addresses by the policy below.
func (w *World) spread(addrs []string, below string, part float64) map[string]wanted {
	weight, exact := func(string) float64 { return 1 }, below == roundRobin || below == weighted
	if below == weighted {
		weight = w.weightOf
	}
	total := 0.0
	for _, addr := range addrs {
		total += weight(addr)
	}
	shares := make(map[string]wanted)
	for _, addr := range addrs {
		shares[addr] = wanted{part * weight(addr) / total, exact}
	}
	return shares
}

// attribute returns the version or the zone that etcd has for an address.
func (w *World) attribute(addr, field string) string {
	for _, e := range w.etcd.Entries(shopKey + "/") {
		if address(e) != addr {
			continue
		}
		if _, text, ok := strings.Cut(e.Value, `"`+field+`":"`); ok {
			value, _, _ := strings.Cut(text, `"`)
			return value
		}
	}
	return ""
}

// weightOf returns the weight that etcd has for an address.
func (w *World) weightOf(addr string) float64 {
	for _, e := range w.etcd.Entries(shopKey + "/") {
		if found := weightPattern.FindStringSubmatch(e.Value); found != nil && address(e) == addr {
			if weight, err := strconv.Atoi(found[1]); err == nil && weight > 0 {
				return float64(weight)
			}
		}
	}
	return 1
}

var weightPattern = regexp.MustCompile(`"weight":"?(\d+)`)
