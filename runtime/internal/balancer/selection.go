package balancer

import (
	"slices"
	"time"

	"google.golang.org/grpc/connectivity"

	planning "github.com/etcdrpc/protoc-gen-go-etcd/internal/plan"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

// selectConns selects the connections that the plan uses, connects them, and closes others. It sets when the
// next selection is due. If joins is set, others serve: calls do not wait for connections that are dialed for the first time.
func (c *core) selectConns(now time.Time, joins bool) {
	c.selection++
	c.stale, c.leaves, c.counts, c.lookAt = false, false, [numReadiness]int{}, time.Time{}
	for _, x := range c.all {
		c.countLate(x, now)
	}
	p := c.plan
	if !p.picksSome() {
		for _, x := range p.conns[:p.Live] {
			c.want(x)
		}
	}
	if c.depends() {
		for _, v := range p.called() {
			for i := range v.groups {
				c.wantGroup(v, &v.groups[i], now)
			}
		}
	}
	c.all = slices.DeleteFunc(c.all, func(x *conn) (gone bool) {
		if !c.isUsed(x) {
			return c.closeUnused(x, now)
		}
		x.closeAt = time.Time{}
		c.connect(x, joins, now)
		return false
	})
}

// depends reports whether the selection depends on the conditions of connections.
func (c *core) depends() bool { return c.plan.picksSome() || c.plan.Live < len(c.plan.All) }

// countLate makes x late if its time is up.
func (c *core) countLate(x *conn, now time.Time) {
	if !x.isAwaited() {
		return
	}
	at := x.triedAt.Add(knownWithin)
	if now.Before(at) {
		c.lookAt = earliest(c.lookAt, at)
		return
	}
	next := *x.current.Load()
	next.readiness = late
	c.set(x, &next)
	c.publish()
}

// closeUnused closes x once it was unused for linger. It reports whether to forget x: it is closed, and the plan does not have it.
func (c *core) closeUnused(x *conn, now time.Time) (gone bool) {
	switch {
	case x.state == connectivity.Idle && x.subConn == nil: // it is closed
	case x.closeAt.IsZero():
		x.closeAt = now.Add(linger)
		fallthrough
	case now.Before(x.closeAt):
		c.lookAt = earliest(c.lookAt, x.closeAt)
		return false
	default:
		c.close(x)
	}
	if !x.inPlan {
		delete(c.conns, x.addr)
	}
	return !x.inPlan
}

// isUsed reports whether the plan wants x, or calls may name its instance.
func (c *core) isUsed(x *conn) bool { return c.isWanted(x) || x.named }

func (c *core) isWanted(x *conn) bool { return x.wanted == c.selection }

func (c *core) want(x *conn) {
	if !c.isWanted(x) {
		x.wanted = c.selection
		c.counts[x.readiness()]++
	}
}

// wantGroup wants the connections of a group, tier by tier. Under pick_first, it wants the first ready one and those before it
// that are still tried. Under other policies, it wants all that each tier uses. It wants a tier of endpoints that are not live
// only while no tier before it can take calls.
func (c *core) wantGroup(v *view, g *group, now time.Time) {
	next := true // whether the next tier may be tried, too
	for _, t := range g.tiers {
		switch {
		case t.Class == planning.Left && v.has(t.Class, func(r readiness) bool { return r == ready }),
			t.Class == planning.Away && v.has(t.Class, readiness.isExpected),
			t.Class == planning.Drained && v.has(planning.Left, readiness.isExpected):
			continue
		case t.Class == planning.Left:
			c.wantConnected(t)
			continue
		case t.Class == planning.Away:
			c.leaves = true
		}
		members := c.choose(v, t, now)
		switch {
		case !c.plan.traits.Single:
			for _, m := range members {
				c.want(c.plan.conns[m])
			}
		case c.wantReady(t, members):
			return
		default:
			next = next && c.wantTrying(members, now)
		}
	}
}

// wantConnected wants the members of a tier that are connected, healthy or not.
func (c *core) wantConnected(t *tier) {
	for _, m := range t.use.Load().members {
		if x := c.plan.conns[m]; x.state == connectivity.Ready {
			c.want(x)
		}
	}
}

// choose selects the members of a tier that the connection uses: all, or the shortest prefix of the ranking that has enough reachable
// members. So an unreachable member gives its place to the next, and has it back once it can be reached. Until enough of the prefix are
// ready, ready members behind it stay. Members that serve what calls need come first.
func (c *core) choose(v *view, t *tier, now time.Time) []int32 {
	conns, ranking, most := c.plan.conns, t.Members, t.Most
	if needed := c.needed(v, t); len(needed) > 0 {
		most = max(most, len(needed))
		isNeeded := func(m int32) bool { return slices.Contains(needed, m) }
		ranking = slices.Concat(needed, slices.DeleteFunc(slices.Clone(ranking), isNeeded))
	}
	if t.Most == 0 {
		return t.use.Load().members
	}
	served := 0
	chosen := planning.Prefix(ranking, most+c.more(t, now), func(m int32) bool {
		if conns[m].is(ready) {
			served++
		}
		return conns[m].readiness().isExpected()
	})
	for _, m := range ranking[len(chosen):] {
		if served < most && conns[m].is(ready) {
			served++
			chosen = append(chosen, m)
		}
	}
	t.uses(c.plan, chosen)
	return t.use.Load().members
}

// needed returns, for each method that calls need and some members lack, the first member that serves it, or better the first that is
// expected to be reached. Under pick_first, it wants these in addition to the one that takes all other calls.
func (c *core) needed(v *view, t *tier) (needed []int32) {
	for _, method := range c.plan.needs() {
		lacking, first := v.lacking(method), int32(-1)
		for _, m := range t.Members {
			expected := c.plan.conns[m].readiness().isExpected()
			if slices.Contains(lacking, attr.Methods(c.plan.All[m])) || first >= 0 && !expected {
				continue
			}
			if first = m; expected {
				break
			}
		}
		if first >= 0 && lacking != nil && !slices.Contains(needed, first) {
			needed = append(needed, first)
			if c.plan.traits.Single {
				c.want(c.plan.conns[first])
			}
		}
	}
	return needed
}

// more returns how many members a tier tries beyond its most: while none is ready, one more every nextWithin, as under
// pick_first.
func (c *core) more(t *tier, now time.Time) int {
	var begun time.Time
	for _, m := range t.Members {
		switch x := c.plan.conns[m]; {
		case x.is(ready):
			return 0
		case x.isAwaited():
			begun = earliest(begun, x.triedAt)
		}
	}
	if begun.IsZero() {
		return 0
	}
	steps := now.Sub(begun) / nextWithin
	c.lookAt = earliest(c.lookAt, begun.Add((steps+1)*nextWithin))
	return int(steps)
}

// wantReady wants the ready member that pick_first sends calls to, and reports whether there is one. That is the one of before
// while it is a ready member, else the first ready member, or rather the first that was already wanted: the others are connected
// only for calls that name them.
func (c *core) wantReady(t *tier, members []int32) bool {
	before, first := t.first.Load(), (*conn)(nil)
	wasWanted := func(x *conn) bool { return x.wanted >= c.selection-1 }
	for _, m := range members {
		x := c.plan.conns[m]
		if x.is(ready) && (first == nil || x == before || wasWanted(x) && !wasWanted(first) && first != before) {
			first = x
		}
	}
	t.first.Store(first)
	if first != nil {
		c.want(first)
	}
	return first != nil
}

// wantTrying wants the first member that has not failed yet, and one more every nextWithin; if all have failed, all. It reports
// whether the next tier may be tried, too.
func (c *core) wantTrying(members []int32, now time.Time) bool {
	some := false
	for _, m := range members {
		x := c.plan.conns[m]
		if !x.readiness().isTrying() {
			continue
		}
		some = true
		c.want(x)
		next := x.triedAt.Add(nextWithin)
		if x.state == connectivity.Idle {
			next = now.Add(nextWithin)
		}
		if now.Before(next) {
			c.lookAt = earliest(c.lookAt, next)
			return false
		}
	}
	if !some {
		for _, m := range members {
			c.want(c.plan.conns[m])
		}
	}
	return true
}
