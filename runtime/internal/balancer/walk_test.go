package balancer

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/coretest"
)

// walked is the core of a policy with what its effects have led to.
type walked struct {
	now    time.Time
	core   core
	fleet  [3]int // which variant of each endpoint there is; 0: none
	config int
	latest *plan
	open   []*leaf
	picks  []picks
	wake   time.Time

	published string // what the last picker picks from
	plan      *plan  // ... and how
	closed    bool
	broken    string
}

// picks are the endpoints that the policy of a leaf picks from, which it was given when it last told its state.
type picks struct {
	leaf *leaf
	from []resolver.Endpoint
}

// variants are what each endpoint may say of itself.
var variants = func() (all [3][]resolver.Endpoint) {
	for i, name := range []string{"a", "b", "c"} {
		for _, says := range []string{"v1 x s.A/M", "v2 y s.A/M,New"} {
			all[i] = append(all[i], ends(name+" "+says)...)
		}
	}
	return all
}()

// variantOf names an endpoint and which of its variants it is.
func variantOf(ep *resolver.Endpoint) string {
	for i := range variants {
		for v := range variants[i] {
			if identicalEndpoints(ep, &variants[i][v]) {
				return fmt.Sprint(instance(*ep), v+1)
			}
		}
	}
	panic("an endpoint is none of the fleet's")
}

func variantsOf(endpoints []resolver.Endpoint) string {
	var all []string
	for i := range endpoints {
		all = append(all, variantOf(&endpoints[i]))
	}
	return strings.Join(all, " ")
}

var walkedConfigs = []string{"", byVersion, byVersion2, ring, `"drain":["a"]`, `"preferZone":true`, strictRed, `"preferZone":true,"zoneMinPercent":100`}

// planner makes plans for a walk, one for each config and fleet and plan before.
type planner []*config

func newPlanner(t *testing.T) planner {
	var p planner
	for _, text := range walkedConfigs {
		p = append(p, mustConfig(t, "{"+text+"}"))
	}
	return p
}

// update has the core take the plan for the present config and fleet.
func (p planner) update(w *walked) bool {
	var fleet []resolver.Endpoint
	for i, v := range w.fleet {
		if v > 0 {
			fleet = append(fleet, variants[i][v-1])
		}
	}
	in := &input{config: p[w.config], client: &attr.Client{Zone: "x"}, endpoints: fleet}
	w.latest = makePlan(in, w.core.plan())
	serving, could := w.core.serving, w.core.serving.canServe(append([]resolver.Endpoint{}, w.latest.left...))
	var before []bool
	for _, method := range walkedMethods {
		before = append(before, serving.serves(method, w.latest.left))
	}
	w.take(w.core.update(w.latest, w.now))
	w.keepServing(serving, could)
	for i, method := range walkedMethods {
		if before[i] && w.core.serving == serving && !serving.serves(method, w.latest.left) {
			w.breaks("P1: a method that is served goes on being served: %s", method)
		}
	}
	return true
}

// take carries out effects.
func (w *walked) take(e effects) {
	for _, le := range e.leaves {
		at := slices.Index(w.open, le.leaf)
		switch {
		case le.do == buildLeaf && (at >= 0 || le.leaf.closed), le.do != buildLeaf && at < 0, len(le.leaf.endpoints) == 0:
			w.breaks("a leaf is built, updated while it is open, and closed, and always has endpoints: %+v", le)
		case le.do == buildLeaf:
			w.open = append(w.open, le.leaf)
		case le.do == closeLeaf:
			w.open = slices.Delete(w.open, at, at+1)
			w.picks = slices.DeleteFunc(w.picks, func(p picks) bool { return p.leaf == le.leaf })
		}
	}
	if !e.wake.IsZero() {
		w.wake = e.wake
	}
	if e.publish {
		w.published, w.plan = picture(w.core.serving), nil
		if g := w.core.serving; g != nil {
			w.plan = g.plan
		}
	}
}

// keepServing asks for what served to stay until what follows can.
func (w *walked) keepServing(before *generation, could bool) {
	if now := w.core.serving; could && now != before && now.state() != ready && now.state() != idle {
		w.breaks("P6: what serves stays until what follows can: it is %v", now.state())
	}
}

func (w *walked) breaks(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

// picture describes what a picker picks from.
func picture(g *generation) string {
	if g == nil {
		return "nothing"
	}
	var all []string
	for _, t := range tiers(g) {
		if l := g.leaves[t.key]; l != nil {
			all = append(all, fmt.Sprint(t.key, variantsOf(l.endpoints), l.state.ConnectivityState, l.staying(g.plan.in.config.ZoneMinPercent)))
		}
	}
	return strings.Join(all, ", ")
}

// walkedMethods are the methods that some endpoints serve.
var walkedMethods = []string{"/s.A/M", "/s.A/New"}

// serves reports whether a call of a method finds a leaf that is ready, and has some of the endpoints that are left.
func (g *generation) serves(method string, left []resolver.Endpoint) bool {
	if g == nil || g.plan.instead != nil {
		return false
	}
	for _, group := range g.plan.views[g.plan.routes.view(method)].groups {
		for _, t := range group.tiers {
			l := g.leaves[t.key]
			if l != nil && l.state.ConnectivityState == ready && slices.ContainsFunc(l.endpoints, func(ep resolver.Endpoint) bool {
				return slices.ContainsFunc(left, func(now resolver.Endpoint) bool { return address(now) == address(ep) && routedAlike(ep, now) })
			}) {
				return true
			}
		}
	}
	return false
}

// text describes a plan by what it is made of.
func (p planner) text(of *plan) string {
	return walkedConfigs[slices.Index(p, of.in.config)] + " for " + variantsOf(of.in.endpoints)
}

// leaves returns the leaves of what serves, or of what waits, in the order of the plan.
func (w *walked) leaves(of which) []*leaf {
	g := w.core.serving
	if of == waits {
		g = w.core.waiting
	}
	if g == nil {
		return nil
	}
	var all []*leaf
	for _, t := range tiers(g) {
		if l := g.leaves[t.key]; l != nil {
			all = append(all, l)
		}
	}
	return all
}

// tell has a leaf tell a state.
func (w *walked) tell(of which, n int, s connectivity.State) bool {
	all := w.leaves(of)
	if n >= len(all) || all[n].state.ConnectivityState == s {
		return false
	}
	serving, could := w.core.serving, w.core.serving.canServe(nil)
	if of == serves && s != ready {
		could = false
	}
	w.picks = append(slices.DeleteFunc(w.picks, func(p picks) bool { return p.leaf == all[n] }), picks{all[n], all[n].endpoints})
	w.take(w.core.leafState(all[n], balancer.State{ConnectivityState: s}))
	w.keepServing(serving, could)
	return true
}

// misrouted returns how a call may be sent to an endpoint that does not serve its method, "" if none may: a policy
// picks from what it was given before until it tells its next state.
func (w *walked) misrouted() string {
	for _, p := range w.picks {
		g, key := w.core.serving, p.leaf.key
		if !g.has(p.leaf) {
			continue
		}
		for _, ep := range p.from {
			if !key.has(ep) {
				return fmt.Sprintf("%s in %v", variantOf(&ep), key)
			}
			if g.plan.shape.classes == nil || key.lane != "" {
				continue
			}
			class, ok := slices.BinarySearch(g.plan.shape.classes, attr.Methods(ep))
			if !ok || key.view > 0 && !g.plan.routes.sets[key.view-1][class] {
				return fmt.Sprintf("%s in view %d of %v", variantOf(&ep), key.view, g.plan.shape.classes)
			}
		}
	}
	return ""
}

// panics has the policy of a leaf panic.
func (w *walked) panics(of which) bool {
	all := w.leaves(of)
	if len(all) == 0 {
		return false
	}
	w.open = slices.DeleteFunc(w.open, func(l *leaf) bool { return l == all[0] })
	w.take(w.core.fail(all[0]))
	return true
}

// settle has every leaf become ready, and a plan that was lost with its policy made again.
func (p planner) settle(w *walked) string {
	for _, of := range []which{serves, waits} {
		for n := range w.leaves(of) {
			if w.tell(of, n, ready) {
				return "a leaf is ready"
			}
		}
	}
	switch {
	case w.closed:
		return ""
	case w.core.waiting != nil:
		return "nothing happens, and a plan waits"
	case w.core.serving == nil || w.core.serving.plan != w.latest:
		p.update(w)
		return "the plan is made again"
	}
	g := w.core.serving
	for _, t := range tiers(g) {
		if l := g.leaves[t.key]; l == nil || !identical(l.endpoints, t.endpoints) {
			return "nothing happens, and a leaf has not what it should"
		}
	}
	return ""
}

func (p planner) events() []coretest.Event[walked] {
	var all []coretest.Event[walked]
	event := func(name string, do func(w *walked) bool) {
		all = append(all, coretest.Event[walked]{Name: name, Do: func(w *walked) bool { return !w.closed && do(w) }})
	}
	for i, name := range []string{"a", "b", "c"} {
		for v := range len(variants[i]) + 1 {
			event(fmt.Sprintf("%s is variant %d", name, v), func(w *walked) bool {
				could := w.fleet[i] != v
				w.fleet[i] = v
				return could && p.update(w)
			})
		}
	}
	for c, text := range walkedConfigs {
		event("the config is {"+text+"}", func(w *walked) bool {
			could := w.config != c
			w.config = c
			return could && p.update(w)
		})
	}
	for n, name := range []string{"first", "second"} {
		for _, s := range []connectivity.State{ready, failed, trying} {
			event(fmt.Sprintf("the %s leaf that waits is %v", name, s), func(w *walked) bool { return w.tell(waits, n, s) })
		}
	}
	for _, s := range []connectivity.State{ready, failed, idle} {
		event(fmt.Sprintf("the first leaf that serves is %v", s), func(w *walked) bool { return w.tell(serves, 0, s) })
	}
	for r := range 2 {
		event(fmt.Sprintf("%d endpoints of the first leaf that serves are ready", r), func(w *walked) bool {
			all := w.leaves(serves)
			if len(all) == 0 || all[0].readiness.ready == r {
				return false
			}
			w.take(w.core.leafReadiness(all[0], readiness{ready: r}))
			return true
		})
	}
	event("the first leaf that waits is idle", func(w *walked) bool { return w.tell(waits, 0, idle) })
	event("a policy that serves panics", func(w *walked) bool { return w.panics(serves) })
	event("a policy that waits panics", func(w *walked) bool { return w.panics(waits) })
	event("half of the time to settle passes", func(w *walked) bool {
		could := w.core.waiting != nil
		w.now = w.now.Add(settleWithin / 2)
		if !w.now.Before(w.wake) {
			w.take(w.core.expire(w.now))
		}
		return could
	})
	event("the policy closes", func(w *walked) bool { w.closed = true; w.take(w.core.close()); return true })
	return all
}

var planRules = []coretest.Rule[walked]{
	{Name: "always", Broken: func(_, w *walked) string { return w.broken }},
	{Name: "P1, P2: a plan in force routes to what may be called and no more", Broken: func(_, w *walked) string {
		if w.latest == nil {
			return ""
		}
		return w.core.misrouted(w.latest.left)
	}},
	{Name: "P1: no call goes where its method is not served", Broken: func(_, w *walked) string { return w.misrouted() }},
	{Name: "what is open is what the generations have", Broken: func(_, w *walked) string {
		return w.core.strays(func(l *leaf) bool { return slices.Contains(w.open, l) }, len(w.open))
	}},
	{Name: "callers pick from what there is", Broken: func(_, w *walked) string {
		if now := picture(w.core.serving); !w.closed && (w.published != now || w.core.serving != nil && w.plan != w.core.serving.plan) {
			return fmt.Sprintf("from %s, where there is %s", w.published, now)
		}
		return ""
	}},
	{Name: "P6: a plan waits while another serves, not for long", Broken: func(_, w *walked) string {
		next := w.core.waiting
		switch {
		case next == nil:
		case w.core.serving.state() != ready:
			return fmt.Sprintf("one that is %v", w.core.serving.state())
		case !w.now.Before(w.core.deadline) && usable(balancer.State{ConnectivityState: next.state()}):
			return "for too long"
		case w.wake != w.core.deadline:
			return "and nobody looks"
		}
		return ""
	}},
}

func TestWalk(t *testing.T) {
	p := newPlanner(t)
	shape := &coretest.Shape{Ignored: []string{"walked.now"}, Old: time.Minute}
	coretest.Name(shape, variantOf)
	coretest.Name(shape, p.text)
	coretest.Name(shape, func(c *childConfig) string { return c.name() + c.text })
	coretest.Name(shape, func(s *balancer.State) string { return s.ConnectivityState.String() })
	coretest.Walk(t, 4, coretest.World[walked]{
		Start: func() *walked {
			w := &walked{now: time.Unix(0, 0), fleet: [3]int{1, 1, 0}}
			p.update(w)
			w.tell(serves, 0, ready)
			return w
		},
		Copy:   func(w *walked) *walked { return coretest.Copy(shape, w) },
		Key:    func(w *walked) string { return coretest.Key(shape, w, w.now) },
		Events: p.events(), Rules: planRules, Settle: p.settle, Within: 20,
	})
}
