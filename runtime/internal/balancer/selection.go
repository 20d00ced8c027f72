package balancer

import (
	"slices"
	"time"

	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
)

// selectConns selects the connections that the plan uses, connects them, and
// closes the rest. It sets the time of the next selection. joins reports
// whether other endpoints already serve: then calls do not wait for connections
// that are dialed for the first time.
func (c *core) selectConns(now time.Time, joins bool) {
	c.stale = false
	c.failsOver = false
	c.lookAt = time.Time{}

	for _, conn := range c.loose {
		conn.spare.Store(!conn.closeAt.IsZero() && !now.Before(conn.closeAt))
		c.countLate(conn, now)
	}

	c.clearSelection()

	if c.plan.selectsByReadiness() {
		for _, v := range c.plan.openViews() {
			whole := !c.plan.traits.Rings || c.isStuck(v, now)
			for _, tiers := range v.groups {
				c.selectTiers(v, tiers, whole, now)
			}

			v.chosen.Store(true)
		}
	}

	unused := 0
	loose := c.loose
	c.loose = loose[:0]
	for _, conn := range loose {
		if c.isUsed(conn) {
			conn.closeAt = time.Time{}
			c.connect(conn, joins, now)
			conn.loose = conn.isAwaited()
		} else {
			conn.loose = c.keepUnused(conn, &unused, now)
		}

		if conn.loose {
			c.loose = append(c.loose, conn)
		}
	}

	clear(loose[len(c.loose):])
}

// countLate marks conn as late if it has been awaited for readyTimeout.
func (c *core) countLate(conn *conn, now time.Time) {
	if !conn.isAwaited() {
		return
	}

	at := conn.triedAt.Add(readyTimeout)
	if now.Before(at) {
		c.lookAt = earliest(c.lookAt, at)
		return
	}

	next := *conn.current.Load()
	next.readiness = late
	c.set(conn, &next)
}

// keepUnused closes conn once it has been unused for linger. It reports whether
// conn stays open until then. kept counts the unused connections that stay
// open.
//
//   - conn stays longer if a call had named its instance before the instance
//     departed, as long as the client has no more connections than its limit.
//   - conn is closed at once if as many other unused connections as the client's
//     limit stay open, because addresses may change fast.
//   - conn is closed at once if it is not connected, so that its next use does
//     not wait for a backoff. But a conn in the plan stays, except under
//     pick_first: otherwise a subset would try it again and again.
func (c *core) keepUnused(conn *conn, kept *int, now time.Time) bool {
	if conn.state != connectivity.Idle || conn.subConn != nil {
		if conn.closeAt.IsZero() {
			conn.closeAt = now.Add(linger)
		}

		if c.mayStay(conn, *kept, now) {
			*kept++

			if now.Before(conn.closeAt) {
				c.lookAt = earliest(c.lookAt, conn.closeAt)
			}

			return true
		}

		c.close(conn)
	}

	// Only conn itself is deleted. The map may have a newer conn to the
	// address, if the plan has kept conn after an earlier deletion.
	if !conn.inPlan && c.conns[conn.addr] == conn {
		delete(c.conns, conn.addr)
	}

	return false
}

// mayStay reports whether the unused conn stays open. kept is the number of
// other unused connections that stay open.
func (c *core) mayStay(conn *conn, kept int, now time.Time) bool {
	limit := c.plan.in.Client.Most
	useful := conn.state == connectivity.Ready || conn.inPlan && !c.plan.traits.Single
	outlasts := conn.departed && conn.outlasts && (limit == 0 || len(c.conns) <= limit)
	stays := outlasts || now.Before(conn.closeAt)

	return useful && stays && (limit == 0 || kept < limit)
}

// isUsed reports whether the plan uses conn, or calls have named its instance.
func (c *core) isUsed(conn *conn) bool {
	return c.isSelected(conn) || conn.named
}

func (c *core) isSelected(conn *conn) bool {
	return conn.always || conn.selected == c.selection
}

// addSelected adds conn to the selection.
func (c *core) addSelected(conn *conn) {
	if !c.isSelected(conn) {
		conn.selected = c.selection
		c.chosen = append(c.chosen, conn)
		c.counts[conn.readiness()]++
		c.loosen(conn)
	}
}

// clearSelection begins a selection. At first it has only the connections that
// the plan always uses.
func (c *core) clearSelection() {
	for _, conn := range c.chosen {
		if !conn.always {
			c.counts[conn.readiness()]--
		}

		c.loosen(conn)
	}

	c.chosen = c.chosen[:0]
	c.selection++
}

// selectTiers selects a group's connections, tier by tier. A tier of endpoints
// that are not live is selected only while no earlier tier can take calls.
// Unless whole is set, the group uses only connections that calls have reached.
//
// Under pick_first, the group uses one connection for all calls. While none is
// ready, a tier is tried after all members of the previous tier. Once a tier
// takes the calls, later tiers only add the members that chooseMembers selects
// for methods that some endpoints lack.
func (c *core) selectTiers(v *view, tiers []*tier, whole bool, now time.Time) {
	mayTryNext := true // under pick_first, the next tier of live endpoints
	served := false    // under pick_first, a tier takes the calls
	for _, t := range tiers {
		switch {
		case served && !t.Class.IsLive():
			return
		case t.Class.IsLive() && !c.plan.picksSome():
			continue // always selected
		case !c.isDue(v, t):
			continue

		case t.Class == planner.Departed:
			for _, m := range t.used.Load().Members {
				conn := c.plan.conns[m]
				// conn is used even if it is not healthy
				if conn.state == connectivity.Ready && !conn.spare.Load() {
					c.addSelected(conn)
				}
			}

			continue

		case t.Class == planner.Away:
			c.failsOver = true
		}

		members, short := c.chooseMembers(v, t, now)
		single := c.plan.traits.Single
		switch {
		case single && (served || c.selectReady(t, members)):
			served = true
		case !single || mayTryNext || !t.Class.IsLive():
			for _, m := range members {
				if conn := c.plan.conns[m]; whole || conn.reached.Load() {
					c.addSelected(conn)
				}
			}

			mayTryNext = short
		}
	}
}

// isStuck reports whether a connection that a call under ring_hash has started
// is still not ready after attemptDelay. All endpoints are then tried at once.
// Otherwise, if others do not answer either, calls would wait for one after the
// other.
func (c *core) isStuck(v *view, now time.Time) bool {
	for _, tiers := range v.groups {
		for _, t := range tiers {
			for _, m := range t.used.Load().Members {
				conn := c.plan.conns[m]
				switch at := conn.triedAt.Add(attemptDelay); {
				case !conn.reached.Load() || !conn.is(late) && !conn.isAwaited():
				case !now.Before(at):
					return true
				default:
					c.lookAt = earliest(c.lookAt, at)
				}
			}
		}
	}

	return false
}

// isDue reports whether a tier may be used: its endpoints are live, or no
// earlier tier can take calls. A tier in use stays in use until an earlier one
// is ready. A tier that is not in use waits while an earlier one may soon be
// ready. If the client uses a subset, the tier stops waiting once an endpoint
// of the earlier one is late.
func (c *core) isDue(v *view, t *tier) bool {
	if t.Class.IsLive() {
		return true
	}

	// The tier is in use if a member serves. A departed member serves as long
	// as it is in the plan.
	serves := func(m int32) bool {
		return t.Class == planner.Departed || c.plan.conns[m].is(ready)
	}

	// Drained endpoints do not wait for departed ones, which may stop soon.
	before := min(t.Class, planner.Departed)
	if slices.ContainsFunc(t.used.Load().Members, serves) ||
		v.plan.picksSome() && v.anyBefore(before, late) {
		return !v.anyBefore(before, ready)
	}

	return !v.anyBefore(before, trying, joining, ready)
}

// chooseMembers chooses the members of a tier to use: all, or as many as the
// limits allow. Members with the methods that calls need come first. short
// reports whether fewer members than the limit can be reached.
func (c *core) chooseMembers(
	v *view,
	t *tier,
	now time.Time,
) (members []int32, short bool) {
	if t.Most == 0 {
		return t.used.Load().Members, false
	}

	ranking := t.Members
	wanted := t.Most

	if needed, expected := c.needed(v, t, now); len(needed) > 0 {
		isNeeded := func(m int32) bool { return slices.Contains(needed, m) }
		ranking = slices.Concat(needed,
			slices.DeleteFunc(slices.Clone(ranking), isNeeded))
		wanted = max(wanted, expected)
	}

	chosen, short := c.reachable(ranking, wanted, now)
	t.setMembers(c.plan, chosen)

	return t.used.Load().Members, short
}

// reachable returns the shortest prefix of a ranking with enough members that
// are ready or may soon be ready. Enough is the number wanted plus the extra
// attempts. So later members replace unreachable ones. short reports whether
// the prefix has fewer.
//
// The prefix also ends after max(wanted, minSilent) silent members, because
// each of them holds a socket until gRPC gives up. A failed member does not
// count as silent while it is tried again and soon fails again.
//
// Ready members behind the prefix are returned, too, until wanted members are
// ready. Under pick_first, all ready members are returned, because one of them
// may be the connection in use.
func (c *core) reachable(
	ranking []int32,
	wanted int,
	now time.Time,
) (chosen []int32, short bool) {
	served := 0
	missing := wanted + c.extraAttempts(ranking, now)
	silent := 0
	for _, m := range ranking {
		state := c.plan.conns[m].readiness()
		stays := state == ready && (served < wanted || c.plan.traits.Single)
		if (missing == 0 || silent >= max(wanted, minSilent)) && !stays {
			continue
		}

		chosen = append(chosen, m)

		if state == ready {
			served++
		}

		if missing > 0 && state.isExpected() {
			missing--
		}

		if c.plan.conns[m].isSilent(now) {
			silent++
		}
	}

	return chosen, missing > 0
}

// needed returns members for the methods that calls need and some members lack.
// For each method it returns a ready member with the method or, if none is
// ready, the members to try. expected is how many of the returned members are
// ready or may soon be. Under pick_first, these members are used in addition to
// the one that takes all other calls.
func (c *core) needed(v *view, t *tier, now time.Time) (needed []int32, expected int) {
	for _, method := range c.plan.needs() {
		lacking := v.lacking(method)
		if lacking == nil {
			continue
		}

		lacks := func(m int32) bool {
			return slices.Contains(lacking, c.plan.All[m].Methods)
		}
		some, _ := c.reachable(slices.DeleteFunc(slices.Clone(t.Members), lacks), 1, now)

		i := slices.IndexFunc(some, func(m int32) bool {
			return c.plan.conns[m].is(ready)
		})
		if i >= 0 {
			some = some[i : i+1]
		}

		for _, m := range some {
			conn := c.plan.conns[m]

			if slices.Contains(needed, m) {
				continue
			}

			needed = append(needed, m)

			if conn.readiness().isExpected() {
				expected++
			}

			if c.plan.traits.Single {
				c.addSelected(conn)
			}
		}
	}

	return needed, expected
}

// extraAttempts returns how many members of a ranking to try in addition while
// no member is ready: one more every attemptDelay.
func (c *core) extraAttempts(ranking []int32, now time.Time) int {
	var begun time.Time
	for _, m := range ranking {
		switch conn := c.plan.conns[m]; {
		case conn.is(ready):
			return 0
		case conn.isAwaited():
			begun = earliest(begun, conn.triedAt)
		}
	}

	if begun.IsZero() {
		return 0
	}

	steps := now.Sub(begun) / attemptDelay
	c.lookAt = earliest(c.lookAt, begun.Add((steps+1)*attemptDelay))

	return int(steps)
}

// selectReady selects the ready member that pick_first sends calls to, and
// reports whether there is one. It prefers the member that it chose last time,
// and then ready members of the last selection. Members outside the last
// selection may be ready because calls have named their instances.
func (c *core) selectReady(t *tier, members []int32) bool {
	before := t.first.Load()
	var first *conn

	// in this selection or the last
	wasSelected := func(conn *conn) bool { return conn.selected >= c.selection-1 }
	for _, m := range members {
		conn := c.plan.conns[m]

		switch {
		case !conn.is(ready) || first != nil && first == before:
		case first == nil || conn == before || wasSelected(conn) && !wasSelected(first):
			first = conn
		}
	}

	t.first.Store(first)

	if first != nil {
		c.addSelected(first)
	}

	return first != nil
}
