package balancer

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
)

// The table of all pairs of features: what a call may meet where two meet. What a pair has to do follows from what each of
// the two says alone; see allowed.

// feature is a feature of the policy.
type feature struct {
	name   string
	config string                                // a field of the policy's JSON; "": none
	client func(*attr.Client)                    // nil: it asks nothing of the connection
	call   func(context.Context) context.Context // nil: it asks nothing of the call
	method string                                // of the calls; "": one that all serve
	state  func(*paired)                         // nil: it says nothing of the endpoints
}

func wayFeature(name, config string) feature {
	return feature{name: name, config: `"childPolicy":[{"` + name + `":` + config + `}]`}
}

var features = []feature{
	{name: "subset", config: `"subset":2`},
	{name: "selector", client: func(c *attr.Client) {
		c.Selector = func(e *endpoint.Endpoint) bool { return !strings.HasPrefix(e.Instance, "k") }
	}},
	{name: "drain", config: `"drain":["a"]`},
	{name: "split", config: byVersion},
	{name: "prefer_zone", config: `"preferZone":true`},
	{name: "zone_min_percent", config: `"preferZone":true,"zoneMinPercent":60`},
	{name: "lane", config: looseRed[:len(looseRed)-len(`"match":{"version":"v2"}}]`)] + `"match":{"team":"red"}}]`, call: inLane},
	{name: "strict lane", config: `"route":[{"lane":"red","match":{"team":"red"},"strict":true}]`, call: inLane},
	{name: "methods", method: "/s.A/New"},
	{name: "leader", method: "/s.A/Lead", client: func(c *attr.Client) { c.LeaderMethods = map[string]struct{}{"/s.A/Lead": {}} }},
	{name: "affinity", call: func(ctx context.Context) context.Context { return calloptions.WithAffinity(ctx, "somebody") }},
	{name: "target", call: func(ctx context.Context) context.Context {
		return calloptions.WithTarget(ctx, calloptions.Target{Instance: "b"})
	}},
	{name: "max_concurrent_requests", config: `"maxConcurrentRequests":1`},
	{name: "slow_start", config: `"slowStart":{"window":"10s"}`},
	{name: "unwell", state: func(p *paired) { p.unwell = "c" }},
	{name: "held", state: func(p *paired) { p.held = map[string]struct{}{"d:1": {}} }},
	wayFeature("round_robin", `{}`), wayFeature("pick_first", `{}`), wayFeature("least_request_experimental", `{}`),
	wayFeature("ring_hash_experimental", `{"requestHashHeader":"etcd-affinity"}`), wayFeature("etcd_weighted", `{}`), wayFeature("etcd_peak_ewma", `{}`),
}

// paired is a connection on which two features are in use.
type paired struct {
	on     map[string]bool
	config string
	client *attr.Client
	ctx    context.Context
	method string
	unwell string // the instance that is
	held   map[string]struct{}
	fleet  []resolver.Endpoint
	policy *policy
	cc     *fakeConn
}

// pairedFleet is twelve instances: of two versions, in two zones, two in a lane, of several weights, and some serve more.
func pairedFleet() []resolver.Endpoint {
	var all []resolver.Endpoint
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
		all = append(all, attr.New(e, new(attr.Storage)))
	}
	return all
}

// pair puts features to use. It returns an error where they exclude one another.
func pair(t *testing.T, of ...feature) (*paired, error) {
	p := &paired{on: make(map[string]bool), client: &attr.Client{Zone: "x", Seed: seedOfTests}, ctx: context.Background(), method: "/s.A/M", fleet: pairedFleet()}
	var fields []string
	for _, f := range of {
		p.on[f.name] = true
		if f.config != "" && !slices.Contains(fields, f.config) {
			fields = append(fields, f.config)
		}
		if f.client != nil {
			f.client(p.client)
		}
		if f.call != nil {
			p.ctx = f.call(p.ctx)
		}
		if f.method != "" {
			p.method = f.method
		}
		if f.state != nil {
			f.state(p)
		}
	}
	p.config = "{" + strings.Join(fields, ",") + "}"
	if _, err := parseConfig(json.RawMessage(p.config)); err != nil {
		return nil, err
	}
	p.policy, p.cc = newTestPolicy(t)
	return p, nil
}

func (p *paired) hand(t *testing.T, config string) {
	t.Helper()
	_ = hand(p.policy, mustConfig(t, config), &attr.State{Client: p.client, Endpoints: p.fleet, Held: p.held, Leader: attr.Leader{Instance: "b"}})
}

// settle has all be told, and asks for what the call needs.
func (p *paired) settle() {
	for range 3 {
		settle(p.policy, p.cc)
		p.makeUnwell()
		_ = p.once()
	}
	settle(p.policy, p.cc)
}

func (p *paired) makeUnwell() {
	for _, s := range p.cc.open() {
		if p.unwell != "" && s.addrs[0].Addr == p.unwell+":1" && s.health != nil {
			s.health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure, ConnectionError: errors.New("unwell")})
		}
	}
}

// once makes a call that ends at once.
func (p *paired) once() error {
	result, err := p.call()
	if result.Done != nil {
		result.Done(balancer.DoneInfo{BytesReceived: true})
	}
	return err
}

// call begins a call.
func (p *paired) call() (balancer.PickResult, error) {
	p.cc.mu.Lock()
	picker := p.cc.state.Picker
	p.cc.mu.Unlock()
	return picker.Pick(balancer.PickInfo{Ctx: p.ctx, FullMethodName: p.method})
}

// calls makes n calls that end at once, and counts where they go.
func (p *paired) calls(t *testing.T, n int) map[string]int {
	t.Helper()
	reached := make(map[string]int)
	for range n {
		result, err := p.call()
		if err != nil {
			t.Fatalf("a call fails: %v", err)
		}
		reached[result.SubConn.(*fakeSubConn).addrs[0].Addr[:1]]++
		if result.Done != nil {
			result.Done(balancer.DoneInfo{BytesReceived: true})
		}
	}
	return reached
}

// allowed returns where the call may go at all and, of these, the tiers of each group in their order. It is the whole
// meaning of the features, said a second time and plainly.
func (p *paired) allowed() (groups [][]*endpoint.Endpoint) {
	var all []*endpoint.Endpoint
	for _, ep := range p.fleet {
		e := attr.Endpoint(ep)
		switch {
		case p.on["target"] || p.on["leader"]:
			if e.Instance != "b" {
				continue
			}
		case p.on["drain"] && e.Instance == "a", p.client.Selector != nil && !p.client.Selector(e):
			continue
		case p.on["lane"] || p.on["strict lane"]:
			if e.Metadata["team"] != "red" {
				continue
			}
		}
		if p.on["methods"] && !p.on["leader"] && !p.on["target"] && !strings.Contains(e.Metadata[endpoint.MethodsName], "New") {
			continue
		}
		all = append(all, e)
	}
	if !p.on["split"] {
		return [][]*endpoint.Endpoint{all}
	}
	groups = make([][]*endpoint.Endpoint, 2)
	for _, e := range all {
		groups[e.Version[1]-'1'] = append(groups[e.Version[1]-'1'], e)
	}
	return groups
}

// first returns those of a group that take its calls while all are well.
func (p *paired) first(group []*endpoint.Endpoint) (names []string) {
	zones := (p.on["prefer_zone"] || p.on["zone_min_percent"]) && slices.ContainsFunc(group, func(e *endpoint.Endpoint) bool { return e.Zone == "x" && e.Instance != p.unwell })
	for _, e := range group {
		if (!zones || e.Zone == "x") && e.Instance != p.unwell {
			names = append(names, e.Instance)
		}
	}
	return names
}

// check makes calls, and compares where they go with what the features say. It returns how many they may reach.
func (p *paired) check(t *testing.T) (most int) {
	t.Helper()
	const n = 1000
	reached := p.calls(t, n)
	named := p.on["target"] || p.on["leader"]
	groups := p.allowed()
	may := make(map[string]bool)
	for g, group := range groups {
		first, in := p.first(group), 0
		if named && p.unwell == "" {
			first = []string{"b"}
		}
		if p.on["zone_min_percent"] && p.on["unwell"] { // some of the zone's calls leave it
			for _, e := range group {
				first = append(first, e.Instance)
			}
		}
		for _, name := range first {
			may[name] = true
			in += reached[name]
		}
		share := []float64{0.9, 0.1}[g]
		if p.on["split"] && !named && !p.on["affinity"] && len(first) > 0 && math.Abs(float64(in)/n-share) > 0.01 {
			t.Errorf("group %d gets %d of %d calls, want %.0f %%: %v", g, in, n, 100*share, reached)
		}
		if p.on["subset"] && !named {
			if got := len(slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(first))), func(name string) bool { return reached[name] == 0 })); got > 4 {
				t.Errorf("group %d: %d instances are called, where the subset is 2: %v", g, got, reached)
			}
		}
	}
	for name := range reached {
		if !may[name] {
			t.Errorf("%d calls go to %s, which is not among %v", reached[name], name, slices.Sorted(maps.Keys(may)))
		}
	}
	switch of := len(reached); {
	case named, p.on["affinity"] && p.on["ring_hash_experimental"], p.on["pick_first"] && !p.on["split"]:
		if of != 1 {
			t.Errorf("calls go to %d instances, want 1: %v", of, reached)
		}
	case !p.on["subset"] && !p.on["pick_first"] && !p.on["affinity"] && of != len(may) && !p.on["unwell"] && !p.on["slow_start"] && !p.on["etcd_peak_ewma"]:
		t.Errorf("calls go to %d instances of %d: %v", of, len(may), reached)
	}
	if p.on["subset"] && !named {
		return min(len(may), 2*len(groups))
	}
	switch {
	case p.on["pick_first"]:
		return len(groups)
	case p.on["affinity"] && p.on["ring_hash_experimental"]:
		return 1
	}
	return len(may)
}

// fill opens calls until one fails, and wants each that the call may go to to have one.
func (p *paired) fill(t *testing.T) {
	t.Helper()
	var under []balancer.PickResult
	defer func() {
		for _, r := range under {
			r.Done(balancer.DoneInfo{BytesReceived: true})
		}
	}()
	seen := make(map[string]bool)
	for range 50 {
		result, err := p.call()
		if err != nil {
			break
		}
		under = append(under, result)
		addr := result.SubConn.(*fakeSubConn).addrs[0].Addr[:1]
		if seen[addr] {
			t.Errorf("%s has two calls", addr)
		}
		seen[addr] = true
	}
	want := 0
	for _, group := range p.allowed() {
		for _, e := range group {
			if e.Instance != p.unwell {
				want++
			}
		}
	}
	if p.on["lane"] && !p.on["target"] && !p.on["leader"] { // the base takes what its lane cannot
		want = len(seen)
	}
	if got := len(seen); p.on["subset"] && got > want || !p.on["subset"] && got != want {
		t.Errorf("%d calls are under way when one fails, and %d instances may be called", got, want)
	}
}

var updatePairs = flag.Bool("update", false, "write the page of pairs anew")

// page is the page of the pairs.
const pairsPage = "../../../docs/measured/pairs.md"

// excluded reports whether two features are never used together: both are the same field, or a call has one method.
func excluded(a, b feature) bool {
	field := func(f feature) string { return strings.SplitN(f.config, ":", 2)[0] }
	return a.name != b.name && (a.config != "" && field(a) == field(b) || a.method != "" && b.method != "")
}

// TestAllPairs puts every two features to use together.
func TestAllPairs(t *testing.T) {
	page := strings.Builder{}
	page.WriteString("<!-- Written by TestAllPairs of runtime/internal/balancer with -update. -->\n\n# Pairs of features\n\n" +
		"Twelve instances, of two versions, in two zones, four of them in a lane, six with a method that the others lack. For each two\n" +
		"features: how many instances a call may go to while all are well. A test makes calls by each pair, fills what is bounded,\n" +
		"and changes the config and the instances under calls; none may fail or go elsewhere. An empty cell is no pair: one field, or one method.\n\n|")
	for _, f := range features {
		page.WriteString(" | " + strings.TrimSuffix(f.name, "_experimental"))
	}
	page.WriteString(" |\n" + strings.Repeat("|---", len(features)+1) + "|\n")
	var refused []string
	for i, a := range features {
		page.WriteString("| " + strings.TrimSuffix(a.name, "_experimental"))
		for _, b := range features[:i+1] {
			if excluded(a, b) {
				page.WriteString(" |")
				continue
			}
			t.Run(a.name+" and "+b.name, func(t *testing.T) {
				p, err := pair(t, a, b)
				if err != nil {
					if !strings.Contains(err.Error(), "has no effect beside") {
						t.Error(err)
					}
					page.WriteString(" | refused")
					refused = append(refused, err.Error())
					return
				}
				p.hand(t, p.config)
				p.settle()
				fmt.Fprintf(&page, " | %d", p.check(t))
				if p.on["max_concurrent_requests"] {
					p.fill(t)
				}
				p.changes(t)
				if got, most := p.size(), 20*len(p.fleet); got > most {
					t.Errorf("the plan holds %d indexes of %d endpoints", got, len(p.fleet))
				}
			})
		}
		page.WriteString(strings.Repeat(" |", len(features)-i) + "\n")
	}
	page.WriteString("\nWhat is refused, when code is generated and in live configs:\n\n")
	for _, err := range refused {
		page.WriteString("- `" + err + "`\n")
	}
	if *updatePairs {
		if err := os.WriteFile(pairsPage, []byte(page.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.ReadFile(pairsPage); err != nil || string(now) != page.String() {
		t.Errorf("docs/measured/pairs.md is not up to date: run this test with -update (%v)", err)
	}
}

// changes has the config, and an instance, come and go, with calls between all that gRPC tells.
func (p *paired) changes(t *testing.T) {
	t.Helper()
	all := p.fleet
	for i, config := range []string{`{}`, p.config, `{` + firstOne + `}`, p.config} {
		p.fleet = all
		if i%2 == 0 {
			p.fleet = all[1:]
		}
		p.hand(t, config)
		for {
			if err := p.once(); err != nil && !errors.Is(err, balancer.ErrNoSubConnAvailable) {
				t.Fatalf("after a change to %s: %v", config, err)
			}
			p.policy.do(func() {})
			p.cc.mu.Lock()
			if len(p.cc.events) == 0 {
				p.cc.mu.Unlock()
				break
			}
			event := p.cc.events[0]
			p.cc.events = p.cc.events[1:]
			p.cc.mu.Unlock()
			event()
		}
		p.settle()
		if err := p.once(); err != nil {
			t.Fatalf("after a change to %s: %v", config, err)
		}
	}
}

// size returns how many indexes the plan holds.
func (p *paired) size() (n int) {
	for _, v := range p.policy.core.plan.called() {
		for _, g := range v.groups {
			for _, tier := range g.tiers {
				n += len(tier.use.Load().members)
			}
		}
	}
	return n
}
