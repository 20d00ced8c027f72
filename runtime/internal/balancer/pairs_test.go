package balancer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/must"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/serviceconfig"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
)

// feature is a feature of the policy, of the connection, or of a call.
type feature struct {
	name   string
	config string                                // a field of the policy's JSON, or ""
	client func(*model.Client)                   // changes the connection; may be nil
	call   func(context.Context) context.Context // changes the context of calls; may be nil

	// the method of the calls; "" means one that all endpoints serve
	method string
}

func inLane(ctx context.Context) context.Context {
	return calloptions.WithLane(ctx, "red")
}

var features = []feature{
	{name: "subset", config: `"subset":2`},
	{name: "selector", client: func(c *model.Client) {
		c.Selector = func(e *endpoint.Endpoint) bool { return e.Instance != "k" }
	}},
	{name: "drain", config: `"drain":["a"]`},
	{name: "split", config: byVersion},
	{name: "prefer_zone", config: `"preferZone":true`},
	{name: "zone_min_percent", config: `"preferZone":true,"zoneMinPercent":60`},
	{name: "lane", config: `"route":[{"lane":"red","match":{"team":"red"}}]`, call: inLane},
	{
		name:   "strict lane",
		config: `"route":[{"lane":"red","match":{"team":"red"},"strict":true}]`,
		call:   inLane,
	},
	{name: "methods", method: "/s.A/New"},
	{name: "route", method: "/s.A/Lead", client: func(c *model.Client) {
		c.Routed = map[string]bool{"/s.A/Lead": true}
	}},
	{name: "affinity", call: func(ctx context.Context) context.Context {
		return calloptions.WithAffinity(ctx, "somebody")
	}},
	{name: "target", call: func(ctx context.Context) context.Context {
		return calloptions.WithTarget(ctx, calloptions.Target{Instance: "b"})
	}},
	{name: "max_concurrent_requests", config: `"maxConcurrentRequests":1`},
	{name: "slow_start", config: `"slowStart":{"window":"10s"}`},
}

func init() {
	for _, p := range serviceconfig.Picking {
		given := map[string]any{}
		maps.Copy(given, p.Given)
		policy, _ := serviceconfig.ReadPolicy(p.Name, given)
		text, _ := json.Marshal([]serviceconfig.Policy{policy})
		features = append(features, feature{name: p.Name, config: `"childPolicy":` + string(text)})
	}
}

// pair is two features in use.
type pair struct {
	on     map[string]bool
	named  bool // its calls name an instance
	config string
	ctx    context.Context
	method string
}

func pairOf(r *rig, a, b feature) (p pair) {
	p = pair{
		on:     make(map[string]bool),
		ctx:    context.Background(),
		method: cmp.Or(a.method, b.method, "/s.A/M"),
	}

	var layers []string
	for _, f := range []feature{a, b} {
		if p.on[f.name] {
			continue
		}

		p.on[f.name] = true

		if f.config != "" {
			layers = append(layers, `{"loadBalancingConfig":[{"etcd":{`+f.config+`}}]}`)
		}

		if f.client != nil {
			f.client(r.client)
		}

		if f.call != nil {
			p.ctx = f.call(p.ctx)
		}
	}

	// The config of b is merged over that of a. If one of the two is a child
	// policy, it is a.
	merged, _ := serviceconfig.Merge(serviceconfig.Known, layers...)
	_, merged, _ = strings.Cut(merged, `{"etcd":{`)
	p.config = strings.TrimSuffix(merged, "}}]}")
	p.named = p.on["target"] || p.on["route"]

	return p
}

// pairedFleet has twelve instances, of two versions, in two zones, and with
// several weights. Four are in a lane, and four also serve the method New.
var pairedFleet = func() (all []*endpoint.Endpoint) {
	for i := range 12 {
		e := &endpoint.Endpoint{
			Instance: string(rune('a' + i)),
			Addr:     string(rune('a'+i)) + ":1",
			Version:  fmt.Sprintf("v%d", 1+i%2),
			Zone:     string(rune('x' + i/2%2)),
			Weight:   uint32(1 + i%3),
			Metadata: map[string]string{endpoint.MethodsName: "s.A/M,Lead"},
		}
		if i%3 == 2 {
			e.Metadata[endpoint.MethodsName] = "s.A/M,Lead,New"
		}

		if i >= 8 {
			e.Metadata["team"] = "red"
		}

		all = append(all, e)
	}

	return all
}()

// allowed returns, for each group of the split, the instances that may take
// calls while all are healthy. It is a second, simple implementation of all
// features.
func (p pair) allowed() (groups [2]string) {
	if p.named {
		return [2]string{"b"}
	}

	for _, e := range pairedFleet {
		switch {
		case p.on["drain"] && e.Instance == "a",
			p.on["selector"] && e.Instance == "k",
			(p.on["lane"] || p.on["strict lane"]) && e.Metadata["team"] != "red",
			p.on["methods"] && !strings.Contains(e.Metadata[endpoint.MethodsName], "New"),
			(p.on["prefer_zone"] || p.on["zone_min_percent"]) && e.Zone != "x": // each group has instances in zone x

		case p.on["split"] && e.Version == "v2":
			groups[1] += e.Instance
		default:
			groups[0] += e.Instance
		}
	}

	return groups
}

// most returns how many of n instances calls may reach. all reports whether
// they must reach that many.
func (p pair) most(n int) (most int, all bool) {
	// an instance with a small part of the tenth of the calls may get none
	uneven := p.on["ring_hash_experimental"] && p.on["split"]
	switch spreads := !p.on["affinity"] && !p.on["etcd_peak_ewma"] && !uneven; {
	case p.named, p.on["pick_first"], p.on["affinity"] && p.on["ring_hash_experimental"]:
		return min(n, 1), true
	case p.on["subset"]:
		return min(n, 2), spreads && !p.on["methods"]
	default:
		return n, spreads
	}
}

// check makes calls, and compares their targets with those that the features
// allow.
func (p pair) check(r *rig) {
	const n = 1000

	groups := p.allowed()

	reached := make(map[string]int)
	for range n {
		reached[r.soonBy(p.ctx, p.method)]++
	}

	for i, group := range groups {
		calls := 0
		of := 0
		for _, name := range strings.Split(group, "") {
			calls += reached[name]

			if reached[name] > 0 {
				of++
			}

			delete(reached, name)
		}

		if most, all := p.most(len(group)); of > most || all && of < most {
			r.t.Errorf("calls go to %d of the instances %s, want at most %d, and exactly that: %v",
				of, group, most, all)
		}

		share := []float64{0.9, 0.1}[i]
		if p.on["split"] &&
			groups[1] != "" &&
			!p.on["affinity"] &&
			math.Abs(float64(calls)/n-share) > 0.01 {
			r.t.Errorf("group %d gets %d of %d calls, want %.0f %% of them, within 1 %%", i, calls,
				n, 100*share)
		}
	}

	if len(reached) > 0 {
		r.t.Errorf("calls go to %v, want only instances of %q", slices.Sorted(maps.Keys(reached)),
			groups)
	}
}

// excluded reports whether two features cannot be used together: both set the
// same field, or both set a call's method.
func excluded(a, b feature) bool {
	field := func(f feature) string { return strings.SplitN(f.config, ":", 2)[0] }
	return a.name != b.name &&
		(a.config != "" && field(a) == field(b) || a.method != "" && b.method != "")
}

// TestAllPairs uses every two features together. Some options have no effect on
// some policies.
func TestAllPairs(t *testing.T) {
	s := model.State{KeyState: known(), Route: model.Route{Instance: "b"}}
	for _, e := range pairedFleet {
		s.Endpoints = append(s.Endpoints, backend(*e))
	}

	dropped := 0
	for i, a := range features {
		for _, b := range features[:i+1] {
			if excluded(a, b) {
				continue
			}

			t.Run(a.name+" and "+b.name, func(t *testing.T) {
				r := newRig(t)
				p := pairOf(r, a, b)
				etcd, err := serviceconfig.ParseEtcd(json.RawMessage("{" + p.config + "}"))
				must.Succeed(t, err)

				if len(etcd.DropUseless()) > 0 {
					dropped++

					// The policy a does not support the option b. The config of
					// zone_min_percent also prefers the zone, and this part has
					// its effect.
					p.on[b.name] = b.name == "zone_min_percent"
				}

				r.updateState(p.config, s)
				r.whereBy(p.ctx, p.method) // may start a connection
				r.settle()
				p.check(r)
			})
		}
	}

	// zone_min_percent, max_concurrent_requests and slow_start with policies
	// that do not support them
	if dropped != 6 {
		t.Errorf("%d pairs have an option without effect, want 6", dropped)
	}
}
