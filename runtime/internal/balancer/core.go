package balancer

import (
	"slices"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// settleWithin bounds how long a plan that can serve waits for the last of its leaves.
const settleWithin = 5 * time.Second

// core decides which plan is in force, and which leaves there are. Its methods are the events; they
// return the effects. It does nothing itself.
//
// A plan of the same shape as a generation takes over that generation's leaves. A plan of another shape
// begins a new generation, with leaves of its own, beside the one that serves: so no plan ever picks from
// endpoints that its routes were not made for. The old generation serves until the new one can. It only
// shrinks meanwhile: an endpoint that may not be called any more leaves both generations at once.
type core struct {
	serving *generation // nil: there was no plan yet, or its policy panicked
	waiting *generation // takes over once it can; nil: none

	deadline time.Time // when waiting stops waiting for its last leaves
	expired  bool      // deadline is past

	out effects
}

// effects are what the shell is to do: build, update and close policies below, in the order of leaves,
// then publish a picker.
type effects struct {
	leaves  []leafEffect
	publish bool
	wake    time.Time // when to call expire; zero: as before
}

type leafEffect struct {
	do   verb
	leaf *leaf
}

type verb int

const (
	buildLeaf verb = iota
	updateLeaf
	closeLeaf
)

// generation is a plan with leaves of its own.
type generation struct {
	plan   *plan
	leaves map[leafKey]*leaf // of plan's places, the ones that have endpoints left
}

// leaf is a set of endpoints with a policy that picks from it.
type leaf struct {
	key       leafKey
	endpoints []resolver.Endpoint
	policy    childConfig
	state     balancer.State // the last that the policy published
	tried     bool           // one was ready, or failed: it need not be waited for
	counted   bool           // readiness is kept: the share of a zone's calls may depend on it
	readiness readiness
	closed    bool
}

// update takes a new plan.
func (c *core) update(next *plan, now time.Time) effects {
	switch {
	case c.serving == nil:
		c.serving = c.begin(next)
	case c.serving.plan.shape.equal(&next.shape):
		c.end(c.waiting)
		c.waiting = nil
		c.fill(c.serving, next)
	case c.waiting != nil && c.waiting.plan.shape.equal(&next.shape):
		c.narrow(c.serving, next)
		c.fill(c.waiting, next)
	default:
		if c.waiting == nil {
			c.deadline, c.expired = now.Add(settleWithin), false
			c.out.wake = c.deadline
		}
		c.narrow(c.serving, next)
		replaced := c.waiting
		c.waiting = c.begin(next)
		c.end(replaced)
	}
	c.out.publish = true
	c.settle()
	return c.take()
}

// leafState takes a state that the policy of a leaf has published.
func (c *core) leafState(l *leaf, s balancer.State) effects {
	if !l.closed {
		l.state = s
		l.tried = l.tried || s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.TransientFailure
		c.out.publish = c.serving.has(l)
		c.settle()
	}
	return c.take()
}

// leafReadiness takes how many endpoints of a leaf are ready.
func (c *core) leafReadiness(l *leaf, r readiness) effects {
	if !l.closed {
		percent := c.zoneMinPercent()
		before := l.staying(percent)
		l.readiness = r
		c.out.publish = c.serving.has(l) && l.staying(percent) != before
	}
	return c.take()
}

// expire takes the time, at effects.wake or later.
func (c *core) expire(now time.Time) effects {
	if c.waiting != nil && !now.Before(c.deadline) {
		c.expired = true
		c.settle()
	}
	return c.take()
}

// fail takes the news that the policy of a leaf panicked, and must not be called any more. The leaf's
// generation ends, and the other one goes on.
func (c *core) fail(l *leaf) effects {
	if l.closed {
		return c.take()
	}
	l.closed = true
	if c.waiting.has(l) {
		c.end(c.waiting)
	} else {
		c.end(c.serving)
		c.serving = c.waiting
	}
	c.waiting = nil
	c.out.publish = true
	return c.take()
}

// close ends both generations.
func (c *core) close() effects {
	c.end(c.waiting)
	c.end(c.serving)
	c.serving, c.waiting = nil, nil
	return c.take()
}

func (c *core) take() effects {
	out := c.out
	c.out = effects{}
	out.leaves = slices.DeleteFunc(out.leaves, func(e leafEffect) bool { return e.do == updateLeaf && e.leaf.closed })
	return out
}

// settle has the waiting generation take over if it can serve, or if the old one does not.
func (c *core) settle() {
	if c.waiting == nil || c.serving.state() == connectivity.Ready && !c.waiting.settled(c.expired) {
		return
	}
	if c.expired {
		for _, l := range c.waiting.leaves {
			l.tried = true
		}
	}
	c.end(c.serving)
	c.serving, c.waiting = c.waiting, nil
	c.out.publish = true
}

// begin returns a new generation.
func (c *core) begin(p *plan) *generation {
	g := &generation{leaves: make(map[leafKey]*leaf, len(p.places))}
	c.fill(g, p)
	return g
}

// fill gives the leaves of a generation the endpoints of a plan of its shape.
func (c *core) fill(g *generation, p *plan) {
	g.plan = p
	inVain := c.triedInVain()
	for _, v := range p.views {
		for _, group := range v.groups {
			for _, t := range group.tiers {
				if l := g.leaves[t.key]; l != nil {
					c.hand(l, t.endpoints, p.in.config.child)
					continue
				}
				l := &leaf{key: t.key, endpoints: t.endpoints, policy: p.in.config.child, state: connecting(), tried: inVain[t.key.lane]}
				l.counted = p.hasZones() && t.key.zone == ownZone
				g.leaves[t.key] = l
				c.out.leaves = append(c.out.leaves, leafEffect{buildLeaf, l})
			}
		}
	}
	for key, l := range g.leaves {
		if _, ok := p.places[key]; !ok {
			c.drop(g, l)
		}
	}
}

// narrow takes endpoints out of a generation that may not be called any more, or that say something else
// of themselves than when the generation's routes were made.
func (c *core) narrow(g *generation, next *plan) {
	if len(g.leaves) == 0 {
		return
	}
	left := make(map[string]resolver.Endpoint, len(next.left))
	for _, ep := range next.left {
		left[address(ep)] = ep
	}
	for _, l := range g.leaves {
		kept := make([]resolver.Endpoint, 0, len(l.endpoints))
		for _, ep := range l.endpoints {
			if now, ok := left[address(ep)]; ok && routedAlike(ep, now) {
				kept = append(kept, now)
			}
		}
		if len(kept) == 0 {
			c.drop(g, l)
		} else {
			c.hand(l, kept, l.policy)
		}
	}
}

// hand gives a leaf its endpoints and its policy's config, unless it has them already.
func (c *core) hand(l *leaf, endpoints []resolver.Endpoint, policy childConfig) {
	if l.policy.same(&policy) && identical(l.endpoints, endpoints) {
		return
	}
	l.endpoints, l.policy = endpoints, policy
	c.out.leaves = append(c.out.leaves, leafEffect{updateLeaf, l})
}

// end closes all leaves of a generation, which may be nil.
func (c *core) end(g *generation) {
	if g == nil {
		return
	}
	for _, l := range g.leaves {
		c.drop(g, l)
	}
}

func (c *core) drop(g *generation, l *leaf) {
	delete(g.leaves, l.key)
	if !l.closed {
		l.closed = true
		c.out.leaves = append(c.out.leaves, leafEffect{closeLeaf, l})
	}
}

func (g *generation) has(l *leaf) bool { return g != nil && g.leaves[l.key] == l }

// settled reports whether a generation can serve, and has no leaf that is connecting. If expired, it need
// only be able to serve. An idle leaf can: it connects when it is called.
func (g *generation) settled(expired bool) bool {
	if s := g.state(); s != connectivity.Ready && s != connectivity.Idle {
		return false
	}
	if expired {
		return true
	}
	for _, l := range g.leaves {
		if l.state.ConnectivityState == connectivity.Connecting {
			return false
		}
	}
	return true
}

// state returns the connectivity of a generation as a whole.
func (g *generation) state() connectivity.State {
	if g.plan.instead != nil {
		return g.plan.instead.ConnectivityState
	}
	return g.best(&g.plan.views[0]).ConnectivityState
}

// best returns the state of the best group of a view.
func (g *generation) best(v *view) balancer.State {
	best := balancer.State{ConnectivityState: connectivity.Shutdown}
	for i := range v.groups {
		if s, ok := g.tierInUse(&v.groups[i]); ok && better(s, best) {
			best = s
		}
	}
	return best
}

// tierInUse returns the state of the first tier that can take calls or, if none can, the best state. ok
// is false if no tier is left.
func (g *generation) tierInUse(group *group) (best balancer.State, ok bool) {
	for i := range group.tiers {
		l := g.leaves[group.tiers[i].key]
		if l == nil {
			continue
		}
		if usable(l.state) {
			return l.state, true
		}
		if !ok || better(l.state, best) {
			best, ok = l.state, true
		}
	}
	return best, ok
}

// isNew reports whether a view waits for the first answer of its endpoints.
func (g *generation) isNew(v *view) bool {
	for _, group := range v.groups {
		for _, t := range group.tiers {
			if l := g.leaves[t.key]; l != nil && !l.tried {
				return true
			}
		}
	}
	return false
}

// triedInVain returns the lanes whose calls go to the base already, because their endpoints were tried.
func (c *core) triedInVain() map[string]bool {
	if c.serving == nil || c.serving.plan.lanes == nil {
		return nil
	}
	lanes := make(map[string]bool)
	for key, l := range c.serving.leaves {
		before, ok := lanes[key.lane]
		lanes[key.lane] = (before || !ok) && l.tried && !usable(l.state)
	}
	delete(lanes, "")
	return lanes
}

// usable reports whether a picker can take calls: an idle policy connects when it is called.
func usable(s balancer.State) bool {
	return s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.Idle
}

// ranks orders states as gRPC aggregates them.
var ranks = [...]int{
	connectivity.Shutdown: 0, connectivity.TransientFailure: 1, connectivity.Idle: 2, connectivity.Connecting: 3, connectivity.Ready: 4,
}

func better(a, b balancer.State) bool { return ranks[a.ConnectivityState] > ranks[b.ConnectivityState] }

// identical reports whether two sets hold the same endpoints, by identity.
func identical(a, b []resolver.Endpoint) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !identicalEndpoints(&a[i], &b[i]) {
			return false
		}
	}
	return true
}

func identicalEndpoints(a, b *resolver.Endpoint) bool {
	return a.Attributes == b.Attributes && len(a.Addresses) == len(b.Addresses) &&
		(len(a.Addresses) == 0 || &a.Addresses[0] == &b.Addresses[0])
}

// routedAlike reports whether an endpoint says the same of itself as before, its weight aside.
func routedAlike(before, now resolver.Endpoint) bool {
	a, b := attr.Endpoint(before), attr.Endpoint(now)
	if a == b || a == nil || b == nil {
		return a == b
	}
	weighed := *a
	weighed.Weight = b.Weight
	return weighed.Equal(*b)
}

// plan returns the latest plan, nil if there is none.
func (c *core) plan() *plan {
	switch {
	case c.waiting != nil:
		return c.waiting.plan
	case c.serving != nil:
		return c.serving.plan
	}
	return nil
}

// zoneMinPercent returns the one in force, 0 if there is none.
func (c *core) zoneMinPercent() uint32 {
	if c.serving == nil {
		return 0
	}
	return c.serving.plan.in.config.ZoneMinPercent
}

// config returns the config in force, nil if there is none.
func (c *core) config() *config {
	if c.serving == nil {
		return nil
	}
	return c.serving.plan.in.config
}
