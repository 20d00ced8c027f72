package world

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

const (
	// rounds is how many calls are made for each instance, to see how they are shared out.
	rounds = 12
	// slackCalls is how many calls more or fewer than its share an instance may get. Exact shares that are interleaved are off
	// by one for each group they are made of.
	slackCalls = 3
	// reconnecting is how long a connection may wait before it is tried again: gRPC's longest backoff, with its jitter.
	reconnecting = 150 * time.Second
)

// lastingly looks every second at what is wrong with calls, until nothing is or connections must have been made again. It
// returns what it has seen last.
func lastingly(look func() string) (wrong string) {
	for end := time.Now().Add(reconnecting); time.Now().Before(end); time.Sleep(time.Second) {
		if wrong = look(); wrong == "" {
			break
		}
	}
	return wrong
}

// wrongCalls has each caller make calls until they are shared out as configured, and reports it if they are not within a
// bound.
func (w *World) wrongCalls(ctx context.Context) {
	for _, c := range w.callers {
		policy, known := w.policyOf(c)
		wrong := lastingly(func() string {
			served := make(map[string]int)
			n := rounds * len(w.registered())
			for range n {
				if from := c.call(ctx, c.clients, shopWho, ""); from != "" {
					served[w.addressOf(from)]++
				}
			}
			return w.misdirected(c, policy, known, served, n)
		})
		if wrong != "" {
			w.report(check.Shares, "%s, under %q: %s", c.name(), policy, wrong)
		}
	}
}

// policyOf returns the service config that is in force for a caller. While etcd has a bad one, that is the last good one that the
// caller has seen, which is not known.
func (w *World) policyOf(c *caller) (config string, known bool) {
	switch live, ok := w.etcd.Get(configKey); {
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

// misdirected describes how the sharing out of n calls differs from the policy, "" if it does not.
func (w *World) misdirected(c *caller, policy string, known bool, served map[string]int, n int) string {
	var wrong []string
	serving := slices.DeleteFunc(w.registered(), func(addr string) bool { return addr == nobodyAddr })
	for addr, calls := range served {
		switch {
		case !slices.Contains(serving, addr):
			wrong = append(wrong, fmt.Sprintf("%d calls to %s, which etcd does not have", calls, addr))
		case w.drained(policy, addr) && len(serving) > 1:
			wrong = append(wrong, fmt.Sprintf("%d calls to %s, which is drained", calls, addr))
		}
	}
	subset := subsetOf(c.spec.Subset, policy)
	if known && subset > 0 {
		wrong = append(wrong, w.wrongSubset(subset, policy, serving, served)...)
	}
	if known && subset == 0 {
		for addr, want := range w.shares(c.spec.Zone, policy, serving) {
			calls, share := float64(served[addr]), want.part*float64(n)
			if want.exact && math.Abs(calls-share) > slackCalls || share == 0 && calls > 0 {
				wrong = append(wrong, fmt.Sprintf("%v of %d calls to %s instead of %.1f", calls, n, addr, share))
			}
		}
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}

// subsetOf returns how many instances a client uses that is given a number and a policy, 0 for all.
func subsetOf(given int, config string) int {
	p, err := parsePolicy(config)
	if err != nil || p.subset == 0 || given > 0 && given < p.subset {
		return given
	}
	return p.subset
}

// subset returns the least number of instances that a caller may use by all configs that it may go by, 0 for all. With lanes
// that is one.
func (w *World) subset(spec schedule.Caller) int {
	if w.routed(spec.Policy) {
		return oneOfALane
	}
	least := subsetOf(spec.Subset, spec.Policy)
	for _, config := range w.puts(configKey) {
		least = subsetOf(least, config)
	}
	return least
}

// wrongSubset describes how the instances that have served the calls of a caller differ from its subset: so many of each group
// of a split, and no more.
func (w *World) wrongSubset(subset int, config string, serving []string, served map[string]int) (wrong []string) {
	p, err := parsePolicy(config)
	if err != nil {
		return nil
	}
	groups, weights := w.groups(p, w.outside(p.routes, serving))
	if slices.Max(weights) == 0 {
		return nil // all groups are called if the split matches none
	}
	most := 0
	for i, group := range groups {
		if weights[i] > 0 {
			most += min(subset, len(group))
		}
	}
	if len(served) > most {
		wrong = append(wrong, fmt.Sprintf("%d instances are called, and the subset has %d", len(served), subset))
	}
	if all := (p.below == roundRobin || p.below == weighted) && !p.drains && !p.preferZone; all && len(served) < most {
		wrong = append(wrong, fmt.Sprintf("%d instances are called, though the subset has %d of %d", len(served), subset, len(serving)))
	}
	return wrong
}

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
