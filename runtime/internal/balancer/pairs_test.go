package balancer

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// feature is a feature of the policy, of the connection, or of a call.
type feature struct {
	name   string
	config string                                // a member of the policy's JSON; "": none
	client func(*attr.Client)                    // nil: it asks nothing of the connection
	call   func(context.Context) context.Context // nil: it asks nothing of the call
	method string                                // of the calls; "": one that all serve
}

func wayFeature(name, config string) feature {
	return feature{name: name, config: `"childPolicy":[{"` + name + `":` + config + `}]`}
}

func inLane(ctx context.Context) context.Context { return calloptions.WithLane(ctx, "red") }

var features = []feature{
	{name: "subset", config: `"subset":2`},
	{name: "selector", client: func(c *attr.Client) { c.Selector = func(e *endpoint.Endpoint) bool { return e.Instance != "k" } }},
	{name: "drain", config: `"drain":["a"]`},
	{name: "split", config: byVersion},
	{name: "prefer_zone", config: `"preferZone":true`},
	{name: "zone_min_percent", config: `"preferZone":true,"zoneMinPercent":60`},
	{name: "lane", config: `"route":[{"lane":"red","match":{"team":"red"}}]`, call: inLane},
	{name: "strict lane", config: `"route":[{"lane":"red","match":{"team":"red"},"strict":true}]`, call: inLane},
	{name: "methods", method: "/s.A/New"},
	{name: "leader", method: "/s.A/Lead", client: func(c *attr.Client) { c.LeaderMethods = map[string]struct{}{"/s.A/Lead": {}} }},
	{name: "affinity", call: func(ctx context.Context) context.Context { return calloptions.WithAffinity(ctx, "somebody") }},
	{name: "target", call: func(ctx context.Context) context.Context {
		return calloptions.WithTarget(ctx, calloptions.Target{Instance: "b"})
	}},
	{name: "max_concurrent_requests", config: `"maxConcurrentRequests":1`},
	{name: "slow_start", config: `"slowStart":{"window":"10s"}`},
	wayFeature("round_robin", `{}`), wayFeature("pick_first", `{}`), wayFeature("least_request_experimental", `{}`),
	wayFeature("ring_hash_experimental", `{"requestHashHeader":"etcd-affinity"}`), wayFeature("etcd_weighted", `{}`), wayFeature("etcd_peak_ewma", `{}`),
}

// paired is two features in use.
type paired struct {
	on     map[string]bool
	config string
	ctx    context.Context
	method string
}

func pairOf(r *rig, features ...feature) (p paired) {
	p = paired{on: make(map[string]bool), ctx: context.Background(), method: "/s.A/M"}
	var fields []string
	for _, f := range features {
		if p.on[f.name] {
			continue
		}
		p.on[f.name] = true
		if f.config != "" {
			fields = append(fields, f.config)
		}
		if f.client != nil {
			f.client(r.client)
		}
		if f.call != nil {
			p.ctx = f.call(p.ctx)
		}
		if f.method != "" {
			p.method = f.method
		}
	}
	p.config = strings.Join(fields, ",")
	return p
}

// pairedFleet is twelve instances: of two versions, in two zones, four in a lane, of several weights, and some serve more.
var pairedFleet = func() (all []*endpoint.Endpoint) {
	for i := range 12 {
		e := &endpoint.Endpoint{
			Instance: string(rune('a' + i)), Addr: string(rune('a'+i)) + ":1", Version: fmt.Sprintf("v%d", 1+i%2),
			Zone: string(rune('x' + i/2%2)), Weight: uint32(1 + i%3), Metadata: map[string]string{endpoint.MethodsName: "s.A/M,Lead"},
		}
		if i%4 > 1 {
			e.Metadata[endpoint.MethodsName] = "s.A/M,Lead,New"
		}
		if i >= 8 {
			e.Metadata["team"] = "red"
		}
		all = append(all, e)
	}
	return all
}()

// allowed returns which instances of each group of the split may take calls while all are well: a second, plain implementation of all
// features.
func (p paired) allowed() (groups [2]string) {
	for _, e := range pairedFleet {
		named, group := p.on["target"] || p.on["leader"], 0
		if p.on["split"] && !named {
			group = int(e.Version[1] - '1')
		}
		switch {
		case named && e.Instance != "b",
			!named && p.on["drain"] && e.Instance == "a",
			!named && p.on["selector"] && e.Instance == "k",
			!named && (p.on["lane"] || p.on["strict lane"]) && e.Metadata["team"] != "red",
			!named && p.on["methods"] && !strings.Contains(e.Metadata[endpoint.MethodsName], "New"):
		default:
			groups[group] += e.Instance
		}
	}
	if !(p.on["prefer_zone"] || p.on["zone_min_percent"]) || p.on["target"] || p.on["leader"] {
		return groups
	}
	for i, group := range groups {
		inZone := strings.Map(func(name rune) rune {
			if pairedFleet[name-'a'].Zone != "x" {
				return -1
			}
			return name
		}, group)
		if inZone != "" {
			groups[i] = inZone
		}
	}
	return groups
}

// most returns how many instances of a group calls may reach; all reports that they reach as many.
func (p paired) most(group string) (n int, all bool) {
	named := p.on["target"] || p.on["leader"]
	switch n = len(group); {
	case named, p.on["pick_first"], p.on["affinity"] && p.on["ring_hash_experimental"]:
		return min(n, 1), !p.on["affinity"] || named
	case p.on["subset"]:
		return min(n, 2), !p.on["methods"] && !p.on["affinity"] && !p.on["etcd_peak_ewma"]
	}
	return n, !p.on["affinity"] && !p.on["etcd_peak_ewma"]
}

// check makes calls, and compares where they go with what the features say. It returns how many instances they may reach.
func (p paired) check(r *rig) (most int) {
	const n = 1000
	groups, reached := p.allowed(), make(map[string]int)
	for range n {
		reached[r.whereBy(p.ctx, p.method)]++
	}
	for i, group := range groups {
		calls, of := 0, 0
		for _, name := range strings.Split(group, "") {
			calls += reached[name]
			if reached[name] > 0 {
				of++
			}
			delete(reached, name)
		}
		may, all := p.most(group)
		if p.on["affinity"] && p.on["split"] && p.on["ring_hash_experimental"] {
			may = 1
		}
		if most += may; of > may || all && of < may {
			r.t.Errorf("calls go to %d instances of %s, want %d", of, group, may)
		}
		share := []float64{0.9, 0.1}[i]
		if p.on["split"] && groups[1] != "" && !p.on["affinity"] && math.Abs(float64(calls)/n-share) > 0.01 {
			r.t.Errorf("group %d gets %d of %d calls, want %.0f %%", i, calls, n, 100*share)
		}
	}
	if len(reached) > 0 {
		r.t.Errorf("calls end by %v, and may go to %q", slices.Sorted(maps.Keys(reached)), groups)
	}
	return most
}

// excluded reports whether two features are never used together: both are the same field, or a call has one method.
func excluded(a, b feature) bool {
	field := func(f feature) string { return strings.SplitN(f.config, ":", 2)[0] }
	return a.name != b.name && (a.config != "" && field(a) == field(b) || a.method != "" && b.method != "")
}

var updatePairs = flag.Bool("update", false, "write the page of pairs anew")

// TestAllPairs uses every two features together, and writes a page of how many instances a call may reach.
func TestAllPairs(t *testing.T) {
	const path = "../../../docs/measured/pairs.md"
	page := strings.Builder{}
	page.WriteString("<!-- Written by TestAllPairs of runtime/internal/balancer with -update. -->\n\n# Pairs of features\n\n" +
		"Twelve instances, of two versions, in two zones, four of them in a lane, six with a method that the others lack. For each two\n" +
		"features: how many instances a call may go to while all are well. A test makes calls by each pair; none may fail or go\n" +
		"elsewhere. An empty cell is no pair: one field, or one method.\n\n|")
	for _, f := range features {
		page.WriteString(" | " + strings.TrimSuffix(f.name, "_experimental"))
	}
	page.WriteString(" |\n" + strings.Repeat("|---", len(features)+1) + "|\n")
	refused := "\nWhat is refused, when code is generated and in live configs:\n\n"
	s := attr.State{Leader: attr.Leader{Instance: "b"}}
	for _, e := range pairedFleet {
		s.Endpoints = append(s.Endpoints, attr.New(e, new(attr.Storage)))
	}
	for i, a := range features {
		page.WriteString("| " + strings.TrimSuffix(a.name, "_experimental"))
		for _, b := range features[:i+1] {
			if excluded(a, b) {
				page.WriteString(" |")
				continue
			}
			t.Run(a.name+" and "+b.name, func(t *testing.T) {
				r := newRig(t)
				p := pairOf(r, a, b)
				if _, err := parseConfig(json.RawMessage("{" + p.config + "}")); err != nil {
					page.WriteString(" | refused")
					refused += "- `" + err.Error() + "`\n"
					return
				}
				r.hand(p.config, s)
				r.whereBy(p.ctx, p.method) // may have something connected to
				r.settle()
				fmt.Fprintf(&page, " | %d", p.check(r))
			})
		}
		page.WriteString(strings.Repeat(" |", len(features)-i) + "\n")
	}
	page.WriteString(refused)
	if *updatePairs {
		if err := os.WriteFile(path, []byte(page.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != page.String() {
		t.Errorf("docs/measured/pairs.md is not up to date: run this test with -update (%v)", err)
	}
}
