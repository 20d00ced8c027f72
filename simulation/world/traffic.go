package world

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// rounds is how many calls each instance should get, of the calls that show how they are shared out.
const rounds = 12

// reconnecting is how long a connection may wait before it is tried again: gRPC's longest backoff, and its jitter.
const reconnecting = 150 * time.Second

// wrongCalls has each caller make calls, now that nothing is wrong, until they go where they are configured to go, and
// reports it if they do not within a bound.
func (w *World) wrongCalls(ctx context.Context) {
	for _, c := range w.callers {
		policy, known := w.policyOf(c)
		wrong := ""
		for end := time.Now().Add(reconnecting); time.Now().Before(end); time.Sleep(time.Second) {
			served := make(map[string]int)
			n := rounds * len(w.registered(shopKey))
			for range n {
				if from := c.call(ctx, c.registry, c.shop, shopKey, who, ""); from != "" {
					served[w.addressOf(from)]++
				}
			}
			if wrong = w.misdirected(c, policy, known, served, n); wrong == "" {
				break
			}
		}
		if wrong != "" {
			w.report(check.Shares, "%s, under %q: %s", c.name(), policy, wrong)
		}
	}
}

// policyOf returns the service config that a caller must be under. It is not known while etcd has a bad one, for then the last
// good one that the caller has seen is in force.
func (w *World) policyOf(c *caller) (config string, known bool) {
	switch live, ok := w.etcd.Get(configs + shopKey); {
	case !ok:
		return c.spec.Policy, true
	case schedule.BadConfig(live.Value):
		return "", false
	case strings.Contains(live.Value, "loadBalancingConfig"):
		return live.Value, true
	default:
		return c.spec.Policy, true // the live one leaves this field alone
	}
}

// addressOf returns the address of a life of a server, "" if it has ended.
func (w *World) addressOf(id string) string {
	for _, s := range w.servers {
		if s.id == id {
			return s.addr
		}
	}
	for _, o := range w.writers {
		if o.id == id {
			return o.addr()
		}
	}
	return ""
}

// misdirected says what is wrong with how n calls were shared out.
func (w *World) misdirected(c *caller, policy string, known bool, served map[string]int, n int) string {
	var wrong []string
	var serving []string // addresses that are served
	for _, addr := range w.registered(shopKey) {
		if !strings.HasPrefix(nobody, `{"Addr":"`+addr) {
			serving = append(serving, addr)
		}
	}
	for addr, calls := range served {
		switch {
		case !slices.Contains(serving, addr):
			wrong = append(wrong, fmt.Sprintf("%d calls to %s, which etcd does not have", calls, addr))
		case w.drained(policy, addr) && len(serving) > 1:
			wrong = append(wrong, fmt.Sprintf("%d calls to %s, which is drained", calls, addr))
		}
	}
	if known && c.spec.Subset == 0 {
		for addr, want := range w.shares(c.spec.Zone, policy, serving) {
			if calls := float64(served[addr]); want.exact && math.Abs(calls-want.share*float64(n)) > slackCalls || want.share == 0 && calls > 0 {
				wrong = append(wrong, fmt.Sprintf("%v of %d calls to %s instead of %.1f", calls, n, addr, want.share*float64(n)))
			}
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}

// slackCalls is how many calls more or fewer than its share an instance may get: an interleaving of exact shares is off by one
// for each group it is made of.
const slackCalls = 3

// wanted is what an address should get of the calls.
type wanted struct {
	share float64
	exact bool // else any share but none is as good
}

// shares returns the share of the calls that each address gets by a policy, nil where nothing can be said.
func (w *World) shares(zone, policy string, serving []string) map[string]wanted {
	var config struct {
		LoadBalancingConfig []map[string]struct {
			Split []struct {
				Match  map[string]string
				Weight float64
			}
			Drain       []string
			PreferZone  bool
			ChildPolicy []map[string]any
		}
	}
	if policy != "" && json.Unmarshal([]byte(policy), &config) != nil {
		return nil
	}
	name, top := "round_robin", config.LoadBalancingConfig
	if len(top) == 0 {
		return w.spread(serving, name, 1)
	}
	for name = range top[0] {
	}
	etcd := top[0]["etcd"]
	if name != "etcd" {
		return w.spread(serving, name, 1)
	}
	if len(etcd.Drain) > 0 {
		return nil // checked by itself
	}
	name = "round_robin"
	if len(etcd.ChildPolicy) > 0 {
		for name = range etcd.ChildPolicy[0] {
		}
	}
	prefer := func(addrs []string) []string {
		near := slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool { return zone == "" || w.said(addr, "zone") != zone })
		if !etcd.PreferZone || len(near) == 0 {
			return addrs
		}
		return near
	}
	shares := make(map[string]wanted)
	for _, addr := range serving {
		shares[addr] = wanted{}
	}
	if len(etcd.Split) == 0 {
		maps.Copy(shares, w.spread(prefer(serving), name, 1))
		return shares
	}
	total, groups := 0.0, make([][]string, len(etcd.Split))
	for i, group := range etcd.Split {
		groups[i] = slices.DeleteFunc(slices.Clone(serving), func(addr string) bool {
			for what, value := range group.Match {
				if w.said(addr, what) != value {
					return true
				}
			}
			return false
		})
		if len(groups[i]) > 0 {
			total += group.Weight
		}
	}
	if total == 0 {
		return nil // whoever is left shares the calls
	}
	for i, group := range etcd.Split {
		if group.Weight > 0 {
			maps.Copy(shares, w.spread(prefer(groups[i]), name, group.Weight/total))
		}
	}
	return shares
}

// spread shares a part of the calls out among addresses by the policy below.
func (w *World) spread(addrs []string, policy string, part float64) map[string]wanted {
	weight, exact := func(string) float64 { return 1 }, policy == "round_robin" || policy == "etcd_weighted"
	if policy == "etcd_weighted" {
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

// said returns what etcd says of an address: its version or its zone.
func (w *World) said(addr, what string) string {
	for _, e := range w.etcd.Entries(shopKey + "/") {
		if address(e) != addr {
			continue
		}
		if _, text, ok := strings.Cut(e.Value, `"`+what+`":"`); ok {
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
			weight, err := strconv.Atoi(found[1])
			if err == nil && weight > 0 {
				return float64(weight)
			}
		}
	}
	return 1
}

var weightPattern = regexp.MustCompile(`"weight":"?(\d+)`)

// drained reports whether the policy drains the server at an address.
func (w *World) drained(policy, addr string) bool {
	drained := w.plan.Drained(policy)
	return slices.ContainsFunc(w.servers, func(s *server) bool {
		name := s.addr
		if s.spec.Named {
			name = s.instanceID()
		}
		return s.addr == addr && slices.Contains(drained, name)
	})
}
