package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// route is one of a policy's: it says which addresses are in which lanes.
type route struct {
	Lane   string
	Match  map[string]string
	Label  string
	Strict bool
}

// lanes are those in which calls are made. No instance is in the last one.
var lanes = []string{"v1", "v2", "v3"}

// oneOfALane is the subset that a caller may be left with by lanes: a single instance may be in one, or in none.
const oneOfALane = 1

// routed reports whether routes may decide where the calls of the caller go: the policy of its own has some, or a live config
// that it may go by.
func (w *World) routed(generated string) bool {
	has := func(config string) bool {
		p, err := parsePolicy(config)
		return err == nil && len(p.routes) > 0
	}
	return has(generated) || slices.ContainsFunc(w.puts(configKey), has)
}

// puts returns the values that a key has had.
func (w *World) puts(key string) (values []string) {
	for _, c := range w.since(w.began) {
		if c.Key == key && !c.Delete && !schedule.BadConfig(c.Value) {
			values = append(values, c.Value)
		}
	}
	return values
}

// callInLane calls the shop in a lane. No call of a lane fails where others would not, unless a route is strict.
func (c *caller) callInLane(ctx context.Context, via clients, r *rand.Rand) {
	if !c.w.strict(c.spec.Policy) {
		c.call(runtime.WithLane(ctx, lanes[r.IntN(len(lanes))]), via, shopWho, "")
	}
}

// strict reports whether a route that may be in force for the caller is.
func (w *World) strict(generated string) bool {
	has := func(config string) bool {
		p, err := parsePolicy(config)
		return err == nil && slices.ContainsFunc(p.routes, func(r route) bool { return r.Strict })
	}
	return has(generated) || slices.ContainsFunc(w.puts(configKey), has)
}

// in reports whether an address is in a lane by a route, "" in any.
func (w *World) in(r route, lane, addr string) bool {
	if r.Label != "" {
		value := w.attribute(addr, r.Label)
		return value != "" && (lane == "" || value == lane)
	}
	return (lane == "" || r.Lane == lane) && w.matches(group{Match: r.Match}, addr)
}

// outside returns the addresses that are in no lane, all if each is in one.
func (w *World) outside(routes []route, addrs []string) []string {
	outside := slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool {
		return slices.ContainsFunc(routes, func(r route) bool { return w.in(r, "", addr) })
	})
	if len(outside) == 0 {
		return addrs
	}
	return outside
}

// inLane returns the addresses to which the calls of a lane go, none where they are to fail.
func (w *World) inLane(routes []route, lane string, addrs []string) []string {
	for _, r := range routes {
		if r.Label == "" && r.Lane != lane {
			continue
		}
		inside := slices.DeleteFunc(slices.Clone(addrs), func(addr string) bool { return !w.in(r, lane, addr) })
		if len(inside) > 0 || r.Strict {
			return inside
		}
		break // the first route that knows the lane holds
	}
	return w.outside(routes, addrs)
}

// wrongLanes has each caller whose policy has routes make calls in lanes, and reports it if they do not reach the lanes'
// instances within a bound.
func (w *World) wrongLanes(ctx context.Context) {
	for _, c := range w.callers {
		policy, known := w.policyOf(c)
		p, err := parsePolicy(policy)
		if !known || err != nil || len(p.routes) == 0 {
			continue
		}
		for _, lane := range lanes {
			if wrong := lastingly(func() string { return w.wrongLane(ctx, c, p, lane) }); wrong != "" {
				w.report(check.Lanes, "%s, under %q: %s", c.name(), policy, wrong)
			}
		}
	}
}

// wrongLane describes a call of a lane that was not answered by an instance of it, "" if each was. Where a route is strict,
// a call may fail while instances of other lanes are ready, and one that nobody is to answer may wait for its deadline.
func (w *World) wrongLane(ctx context.Context, c *caller, p policy, lane string) string {
	serving := slices.DeleteFunc(w.registered(), func(addr string) bool { return addr == nobodyAddr })
	want, waits := w.inLane(p.routes, lane, serving), w.waits(c.spec.Policy)
	for range len(serving) + 1 {
		record := c.prepare(c.clients.registry, shopKey, shopKey, shopWho, "")
		record.MayFail = len(want) == 0 || slices.ContainsFunc(p.routes, func(r route) bool { return r.Strict })
		from, code := c.ask(runtime.WithLane(ctx, lane), c.clients.shop, record)
		switch addr := w.addressOf(from); {
		case len(want) == 0 && code != codes.Unavailable && !(waits && code == codes.DeadlineExceeded):
			return fmt.Sprintf("a call in %s, which has no instance, ended with %v at %q", lane, code, from)
		case len(want) > 0 && !slices.Contains(want, addr):
			return fmt.Sprintf("a call in %s went to %q (%v), and not to one of %v", lane, addr, code, want)
		}
	}
	return ""
}
