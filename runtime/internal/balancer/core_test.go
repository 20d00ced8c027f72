package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/endpoint"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

const (
	idle       = connectivity.Idle
	trying     = connectivity.Connecting
	ready      = connectivity.Ready
	failed     = connectivity.TransientFailure
	ring       = `"childPolicy":[{"ring_hash_experimental":{"requestHashHeader":"h"}}]`
	robin      = `"childPolicy":[{"round_robin":{}}]`
	byVersion  = `"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"v2"},"weight":10}]`
	byVersion2 = `"split":[{"match":{"version":"v1"},"weight":50},{"match":{"version":"v2"},"weight":50}]`
)

// machine drives a core as the shell does, and checks what the shell relies on.
type machine struct {
	t    *testing.T
	core core
	now  time.Time
	open map[*leaf]bool
	done []string // what the last event had done: "build a-b", "update …", "close …", "publish"
}

func newMachine(t *testing.T) *machine {
	return &machine{t: t, now: time.Unix(0, 0), open: make(map[*leaf]bool)}
}

func (m *machine) take(e effects) {
	m.t.Helper()
	m.done = nil
	for _, le := range e.leaves {
		switch le.do {
		case buildLeaf:
			if m.open[le.leaf] || le.leaf.closed {
				m.t.Fatal("a leaf is built twice")
			}
			m.open[le.leaf] = true
			m.done = append(m.done, "build "+names(le.leaf.endpoints))
		case updateLeaf:
			if !m.open[le.leaf] {
				m.t.Fatal("a leaf is updated that is closed")
			}
			m.done = append(m.done, "update "+names(le.leaf.endpoints))
		case closeLeaf:
			if !m.open[le.leaf] {
				m.t.Fatal("a leaf is closed twice")
			}
			delete(m.open, le.leaf)
			m.done = append(m.done, "close "+names(le.leaf.endpoints))
		}
		if len(le.leaf.endpoints) == 0 {
			m.t.Fatal("a leaf has no endpoints")
		}
	}
	slices.Sort(m.done)
	if e.publish {
		m.done = append(m.done, "publish")
	}
	m.check()
}

// check checks that what is open is what the generations have.
func (m *machine) check() {
	m.t.Helper()
	if stray := m.core.strays(func(l *leaf) bool { return m.open[l] }, len(m.open)); stray != "" {
		m.t.Fatal(stray)
	}
}

// strays returns how the leaves that are open differ from those that the generations have, "" if they do not.
func (c *core) strays(open func(*leaf) bool, opened int) string {
	n := 0
	for _, g := range []*generation{c.serving, c.waiting} {
		if g == nil {
			continue
		}
		for key, l := range g.leaves {
			if n++; !open(l) || l.closed || l.key != key {
				return "a generation has a leaf that is not open"
			}
		}
	}
	if n != opened {
		return fmt.Sprintf("%d leaves are open, %d are some generation's", opened, n)
	}
	if c.waiting != nil && c.serving == nil {
		return "a generation waits for none"
	}
	return ""
}

func (m *machine) update(config, zone string, fleet ...string) *machine {
	m.t.Helper()
	in := &input{service: "acme/user", config: mustConfig(m.t, "{"+config+"}"), client: &attr.Client{Zone: zone}, endpoints: ends(fleet...)}
	m.take(m.core.update(makePlan(in, m.core.plan()), m.now))
	return m
}

type which int

const (
	serves which = iota
	waits
)

func (m *machine) generation(w which) *generation {
	if w == serves {
		return m.core.serving
	}
	return m.core.waiting
}

// all has every leaf of a generation tell a state.
func (m *machine) all(w which, s connectivity.State) *machine {
	m.t.Helper()
	g := m.generation(w)
	var done []string
	for _, t := range tiers(g) {
		if l := g.leaves[t.key]; l != nil {
			m.take(m.core.leafState(l, balancer.State{ConnectivityState: s}))
			done = append(done, m.done...)
		}
	}
	m.done = done
	return m
}

// tell has the leaf with exactly these endpoints tell a state.
func (m *machine) tell(w which, endpoints string, s connectivity.State) *machine {
	m.t.Helper()
	m.take(m.core.leafState(m.leaf(w, endpoints), balancer.State{ConnectivityState: s}))
	return m
}

func (m *machine) leaf(w which, endpoints string) *leaf {
	m.t.Helper()
	for _, l := range m.generation(w).leaves {
		if names(l.endpoints) == endpoints {
			return l
		}
	}
	m.t.Fatalf("no leaf has %s: %s", endpoints, m.describe())
	return nil
}

func tiers(g *generation) []leafPlan {
	var all []leafPlan
	for _, v := range g.plan.views {
		for _, group := range v.groups {
			all = append(all, group.tiers...)
		}
	}
	return all
}

// describe writes the leaves of what serves and of what waits, "ab c / a bc".
func (m *machine) describe() string {
	var all []string
	for _, g := range []*generation{m.core.serving, m.core.waiting} {
		if g == nil {
			continue
		}
		var leaves []string
		for _, t := range tiers(g) {
			if l := g.leaves[t.key]; l != nil {
				leaves = append(leaves, names(l.endpoints))
			}
		}
		all = append(all, strings.Join(leaves, " "))
	}
	return strings.Join(all, " / ")
}

func (m *machine) want(what, state string, done ...string) {
	m.t.Helper()
	if got := m.describe(); got != state {
		m.t.Errorf("%s: %q, want %q", what, got, state)
	}
	if len(done) > 0 && !slices.Equal(m.done, done) {
		m.t.Errorf("%s: did %q, want %q", what, m.done, done)
	}
}

func TestCoreFillsAPlanOfTheSameShapeInPlace(t *testing.T) {
	m := newMachine(t).update("", "", "a v1", "b v1")
	m.want("the first plan serves at once", "ab", "build ab", "publish")
	m.all(serves, ready)
	m.want("its state is published", "ab", "publish")
	serving := m.core.serving
	m.update("", "", "a v1", "b v1", "c v1")
	m.want("another endpoint", "abc", "update abc", "publish")
	m.update(byVersion, "", "a v1", "b v1").all(waits, ready)
	m.want("another shape, once it can", "ab", "close ab", "publish")
	if m.core.serving == serving {
		t.Fatal("it has no generation of its own")
	}
	m.update(byVersion2, "", "a v1", "b v1", "c v2")
	m.want("other weights, and a group's first endpoint", "ab c", "build c", "update ab", "publish")
	m.update(byVersion2, "", "c v2")
	m.want("a group's last endpoint leaves", "c", "close ab", "update c", "publish")
}

func TestCoreSkipsLeavesThatStayAsTheyAre(t *testing.T) {
	fleet, c := ends("a v1", "b v2"), mustConfig(t, "{"+byVersion+"}")
	m := newMachine(t)
	plan := func(fleet []resolver.Endpoint, c *config) effects {
		return m.core.update(makePlan(&input{config: c, client: &attr.Client{}, endpoints: fleet}, m.core.plan()), m.now)
	}
	m.take(plan(fleet, c))
	m.want("first", "a b", "build a", "build b", "publish")
	m.take(plan(fleet, mustConfig(t, "{"+byVersion+"}")))
	m.want("nothing changed", "a b", "publish")
	m.take(plan([]resolver.Endpoint{fleet[0], ends("b v2")[0]}, c))
	m.want("one endpoint's attributes changed", "a b", "update b", "publish")
	m.take(plan([]resolver.Endpoint{fleet[0], ends("b v2")[0]}, mustConfig(t, "{"+byVersion+"}")))
	m.want("and nothing more", "a b", "update b", "publish")
	m = newMachine(t).update(`"childPolicy":[{"least_request_experimental":{}}]`, "", "a", "b")
	same := m.core.serving
	m.update(`"childPolicy":[{"least_request_experimental":{"choiceCount":5}}]`, "", "a", "b")
	m.want("the config of the policy below changed", "ab", "update ab", "publish")
	if m.core.serving != same {
		t.Error("it has another generation")
	}
}

// TestP1_RoutesServeWhatTheyWereMadeFor is a rollback: an instance without a method joins two that
// have it.
func TestP1_RoutesServeWhatTheyWereMadeFor(t *testing.T) {
	const with, without = " - - s.A/M,New", " - - s.A/M"
	m := newMachine(t).update("", "", "a"+with, "b"+with)
	m.all(serves, ready)
	m.update("", "", "a"+with, "b"+with, "c"+without)
	m.want("the old routes do not get it", "ab / abc ab")
	m.tell(waits, "abc", ready).want("not yet", "ab / abc ab")
	m.tell(waits, "ab", ready).want("now", "abc ab", "close ab", "publish")

	m = newMachine(t).update("", "", "a"+with, "b"+with)
	m.all(serves, ready).update("", "", "a"+with, "b"+without)
	m.want("an instance that no longer has the method leaves the old routes", "a / ab a")
}

// TestP2_WhatLeavesLeavesEveryPlanAtOnce covers withdrawal, drain and a selector.
func TestP2_WhatLeavesLeavesEveryPlanAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name, config string
		fleet        []string
	}{
		{"withdrawn", byVersion, []string{"a v1", "b v2"}},
		{"drained", byVersion + `,"drain":["c"]`, []string{"a v1", "b v2", "c v2"}},
	} {
		m := newMachine(t).update("", "", "a v1", "b v2", "c v2")
		m.all(serves, ready).update(tt.config, "", tt.fleet...)
		m.want(tt.name+" while another plan follows", "ab / a b")
	}
	m := newMachine(t).update("", "", "a v1", "b v2", "c v2")
	m.all(serves, ready).update(byVersion, "", "a v1", "b v2", "c v2")
	m.want("a split waits", "abc / a bc")
	m.update(byVersion, "", "a v1", "b v2")
	m.want("withdrawn while a plan waits", "ab / a b")
	m.update(byVersion, "", "d v2")
	m.want("all that served left", "d", "close a", "close ab", "update d", "publish")
}

// TestP6_WhatServesStaysUntilWhatFollowsCan is about taking over.
func TestP6_WhatServesStaysUntilWhatFollowsCan(t *testing.T) {
	begin := func(config string) *machine {
		m := newMachine(t).update("", "", "a v1", "b v2")
		m.all(serves, ready).update(config, "", "a v1", "b v2")
		return m
	}
	m := begin(byVersion)
	m.want("another shape waits", "ab / a b")
	m.tell(waits, "a", ready).want("while one leaf is connecting", "ab / a b")
	m.tell(waits, "b", failed).want("until each knows how it fares", "a b", "close ab", "publish")

	m = begin(ring)
	m.all(waits, idle).want("a ring that is idle connects when it is called", "ab", "close ab", "publish")

	m = begin(byVersion)
	m.all(waits, failed).want("what cannot serve waits", "ab / a b")
	m.all(serves, trying).want("until what serves cannot either", "a b", "close ab", "publish")

	m = begin(byVersion)
	m.tell(waits, "a", ready)
	m.now = m.now.Add(settleWithin - 1)
	m.take(m.core.expire(m.now))
	m.want("just before its time", "ab / a b")
	m.now = m.now.Add(1)
	m.take(m.core.expire(m.now))
	m.want("after it the leaf that connects is not waited for", "a b", "close ab", "publish")

	m = begin(byVersion)
	m.now = m.now.Add(settleWithin)
	m.take(m.core.expire(m.now))
	m.want("after its time what cannot serve waits", "ab / a b")
	m.tell(waits, "b", ready).want("until it can", "a b", "close ab", "publish")

	m = newMachine(t).update("", "", "a v1", "b v2").update(byVersion, "", "a v1", "b v2")
	m.want("where nothing serves, nothing is waited for", "a b", "build a", "build b", "close ab", "publish")
}

func TestCoreReplacesWhatWaits(t *testing.T) {
	m := newMachine(t).update("", "", "a v1", "b v2")
	m.all(serves, ready).update(byVersion, "", "a v1", "b v2")
	deadline := m.core.deadline
	m.now = m.now.Add(time.Second)
	m.update(ring, "", "a v1", "b v2")
	m.want("a third shape", "ab / ab", "build ab", "close a", "close b", "update ab", "publish")
	if m.core.deadline != deadline {
		t.Error("what serves is given more time")
	}
	m.update("", "", "a v1", "b v2", "c v1")
	m.want("back to the shape that serves", "abc", "close ab", "update abc", "publish")
}

func TestCoreWithoutEndpoints(t *testing.T) {
	m := newMachine(t).update("", "")
	m.want("none at first", "", "publish")
	m.update("", "", "a").want("the first", "a", "build a", "publish")
	m.all(serves, ready).update("", "").want("none is left", "", "close a", "publish")
	if s := m.core.serving.state(); s != failed {
		t.Errorf("without endpoints the state is %v", s)
	}
	m.update("", "").want("still none", "", "publish")
}

func TestS1_APlanWhosePolicyPanickedEnds(t *testing.T) {
	m := newMachine(t).update("", "", "a v1", "b v2")
	m.all(serves, ready).update(byVersion, "", "a v1", "b v2")
	panicked := m.leaf(waits, "a")
	delete(m.open, panicked) // the shell does not call it again
	m.take(m.core.fail(panicked))
	m.want("what waits panicked", "ab", "close b", "publish")
	m.take(m.core.fail(panicked))
	m.take(m.core.leafState(panicked, balancer.State{ConnectivityState: ready}))
	m.want("it is not heard again", "ab")

	m.update(byVersion, "", "a v1", "b v2")
	panicked = m.leaf(serves, "ab")
	delete(m.open, panicked)
	m.take(m.core.fail(panicked))
	m.want("what serves panicked", "a b", "publish")

	panicked = m.leaf(serves, "a")
	delete(m.open, panicked)
	m.take(m.core.fail(panicked))
	m.want("and what followed, too", "", "close b", "publish")
	if m.core.serving != nil || m.core.plan() != nil || m.core.config() != nil {
		t.Error("something serves")
	}
}

func TestCoreCloses(t *testing.T) {
	m := newMachine(t).update("", "", "a v1", "b v2")
	m.all(serves, ready).update(byVersion, "", "a v1", "b v2")
	m.take(m.core.close())
	if len(m.open) > 0 {
		t.Errorf("%d leaves are open", len(m.open))
	}
	m.take(m.core.expire(m.now.Add(time.Hour)))
	m.take(m.core.close())
}

// TestCoreAlways walks random events, and checks what must hold after each.
func TestCoreAlways(t *testing.T) {
	configs := []*config{}
	for _, text := range []string{"", robin, ring, byVersion, byVersion2, byVersion + "," + ring, `"preferZone":true`, `"preferZone":true,` + byVersion,
		redIsV2, strictRed + "," + ring, redAndBlue + `,"drain":["b"]`, byLabel, byLabel + "," + byVersion, `"preferZone":true,"zoneMinPercent":60`, `"subset":2`,
		`"drain":["a","c"]`, `"drain":["b"],` + byVersion, `"childPolicy":[{"least_request_experimental":{}}]`, `"childPolicy":[{"least_request_experimental":{"choiceCount":5}}]`} {
		configs = append(configs, mustConfig(t, "{"+text+"}"))
	}
	var variants [][]resolver.Endpoint // of each instance
	for i := range 6 {
		var all []resolver.Endpoint
		for _, spec := range []string{"v1 x s.A/M", "v2 y s.A/M,New", "v1 y s.A/M,New", "v2 x -", "v1 x s.A/M"} {
			all = append(all, ends(fmt.Sprintf("%c %s", 'a'+i, spec))...)
		}
		variants = append(variants, all)
	}
	steps := 0
	for seed := range uint64(300) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		m := newMachine(t)
		fleet := make([]int, len(variants)) // the variant that is there, 0: none
		var left []resolver.Endpoint
		for range 200 {
			steps++
			before := m.core.serving
			could := before.canServe(nil)
			switch rnd.IntN(8) {
			case 0, 1, 2:
				fleet[rnd.IntN(len(fleet))] = rnd.IntN(len(variants[0]) + 1)
				var now []resolver.Endpoint
				for i, v := range fleet {
					if v > 0 {
						now = append(now, variants[i][v-1])
					}
				}
				in := &input{config: configs[rnd.IntN(len(configs))], client: &attr.Client{Zone: "x", Seed: seedOfTests, Subset: int(seed % 4)}, endpoints: now}
				p := makePlan(in, m.core.plan())
				left = append([]resolver.Endpoint{}, p.left...)
				could = before.canServe(left)
				m.take(m.core.update(p, m.now))
			case 3:
				m.now = m.now.Add(settleWithin / 2)
				m.take(m.core.expire(m.now))
			case 4:
				if l := m.random(rnd); l != nil && rnd.IntN(10) == 0 {
					could = false
					delete(m.open, l)
					m.take(m.core.fail(l))
				}
			default:
				if l := m.random(rnd); l != nil {
					s := []connectivity.State{idle, trying, ready, ready, ready, failed}[rnd.IntN(6)]
					if m.core.serving.has(l) && s != ready {
						could = false
					}
					m.take(m.core.leafState(l, balancer.State{ConnectivityState: s}))
					m.take(m.core.leafReadiness(l, readiness{ready: rnd.IntN(4)}))
				}
			}
			if how := m.core.misrouted(left); how != "" {
				t.Fatalf("seed %d: %s", seed, how)
			}
			if could && m.core.serving != before {
				if s := m.core.serving.state(); s != ready && s != idle {
					t.Fatalf("seed %d: what could serve was given up for what is %v", seed, s)
				}
			}
		}
		m.take(m.core.close())
		if len(m.open) > 0 {
			t.Fatalf("seed %d: %d leaves are open in the end", seed, len(m.open))
		}
	}
	t.Logf("%d steps", steps)
}

func (m *machine) random(rnd *rand.Rand) *leaf {
	var all []*leaf
	for _, g := range []*generation{m.core.serving, m.core.waiting} {
		if g != nil {
			for _, t := range tiers(g) {
				if l := g.leaves[t.key]; l != nil {
					all = append(all, l)
				}
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[rnd.IntN(len(all))]
}

// canServe reports whether a generation is ready, with what is left of its endpoints unless that is nil.
func (g *generation) canServe(left []resolver.Endpoint) bool {
	if g == nil || g.plan.instead != nil {
		return false
	}
	rest := &generation{plan: g.plan, leaves: make(map[leafKey]*leaf)}
	for key, l := range g.leaves {
		if left == nil || slices.ContainsFunc(l.endpoints, func(ep resolver.Endpoint) bool {
			return slices.ContainsFunc(left, func(now resolver.Endpoint) bool { return address(now) == address(ep) && routedAlike(ep, now) })
		}) {
			rest.leaves[key] = l
		}
	}
	return rest.state() == ready
}

// misrouted returns how a generation may call what it may not, or has no routes for it, "" if all is well.
func (c *core) misrouted(left []resolver.Endpoint) string {
	for _, g := range []*generation{c.serving, c.waiting} {
		if g == nil {
			continue
		}
		texts := make(map[string]bool)
		for key, l := range g.leaves {
			group := g.plan.in.config.groupOf()
			for _, ep := range l.endpoints {
				if !slices.ContainsFunc(left, func(now resolver.Endpoint) bool { return identicalEndpoints(&now, &ep) }) {
					return fmt.Sprintf("a leaf has %s, which left", instance(ep))
				}
				if key.lane == "" {
					texts[attr.Methods(ep)] = true
				}
				if !key.has(ep) {
					return fmt.Sprintf("the lane %q has %s, which serves other methods", key.lane, instance(ep))
				}
				if key.view > 0 {
					class, ok := slices.BinarySearch(g.plan.shape.classes, attr.Methods(ep))
					if !ok || !g.plan.routes.sets[key.view-1][class] {
						return fmt.Sprintf("a view has %s, which does not serve its methods", instance(ep))
					}
				}
				if len(g.plan.in.config.Split) > 0 && group(ep) != key.group {
					return fmt.Sprintf("a group has %s, which is another's", instance(ep))
				}
				if l := g.plan.lanes; l != nil && (key.lane != "" || !l.noBase) && !l.has(key.lane, ep) {
					return fmt.Sprintf("the lane %q has %s, which is not in it", key.lane, instance(ep))
				}
			}
		}
		if g.plan.shape.classes == nil && len(texts) > 1 {
			return "a plan without routes has endpoints that serve different methods"
		}
		for text := range texts {
			if g.plan.shape.classes != nil && !slices.Contains(g.plan.shape.classes, text) {
				return fmt.Sprintf("the routes were not made for %q", text)
			}
		}
	}
	return ""
}

// has reports whether an endpoint serves the methods of a leaf, if it is of a lane.
func (k *leafKey) has(ep resolver.Endpoint) bool {
	return k.lane == "" || strings.Contains(k.methods, textOf([]string{attr.Methods(ep)}, nil))
}

// has reports whether an endpoint is in a lane, or in none if that is "".
func (l *lanes) has(lane string, ep resolver.Endpoint) bool {
	in := l.config.Place(1, func(_ int, name string) string { return attr.Endpoint(ep).Field(name) }).Of[0]
	return lane == "" && in == nil || slices.Contains(in, lane)
}

func TestRoutedAlike(t *testing.T) {
	heavy := attr.New(&endpoint.Endpoint{Instance: "a", Addr: "a:1", Version: "v1", Weight: 7}, new(attr.Storage))
	for _, tt := range []struct {
		a, b resolver.Endpoint
		want bool
	}{
		{ends("a v1")[0], ends("a v1")[0], true},
		{ends("a v1")[0], ends("a v2")[0], false},
		{attr.New(&endpoint.Endpoint{Instance: "a", Addr: "a:1", Version: "v1"}, new(attr.Storage)), heavy, true},
		{resolver.Endpoint{}, resolver.Endpoint{}, true},
		{resolver.Endpoint{}, heavy, false},
	} {
		if got := routedAlike(tt.a, tt.b); got != tt.want {
			t.Errorf("%v and %v: %v", attr.Endpoint(tt.a), attr.Endpoint(tt.b), got)
		}
	}
}
