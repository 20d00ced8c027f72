package balancer

import (
	"cmp"
	"errors"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

const (
	// linger is how long a connection is kept that nothing wants. Another plan may be about to want it, and if what it has left its
	// calls to leaves as well, as servers do that share a cause, all of them are the last resort.
	linger = 5 * time.Second
	// retryAfter is the pause after gRPC failed to make a SubConn.
	retryAfter = time.Second
	// nextWithin is how long one attempt to connect may take before another endpoint is tried in parallel, as in gRPC's
	// pick_first (A61).
	nextWithin = 250 * time.Millisecond
	// knownWithin bounds how long calls wait for an endpoint that connects or has yet to report its health: gRPC gives up on a
	// connection after 20 s, and a health service may never answer. After that the endpoint is late.
	knownWithin = time.Second
)

// errUnwell is the error of calls to an unhealthy endpoint where gRPC gives no reason, as for an ejected one.
var errUnwell = errors.New("etcd: the endpoint is not healthy, or outlier detection has ejected it")

// core decides which connections exist and which plan picks use. Its methods are events; they record effects and do no I/O.
//
// A new plan is in force at once. Its endpoints include the connected ones of the plan before, as the last resort: see
// plan.endpoints.
type core struct {
	statsOf func(addr string) *picking.Stats // returns the statistics of an address
	conns   map[string]*conn                 // by address
	all     []*conn
	counts  [3]int // of the connections that are wanted, by readiness
	serving bool   // update runs, and connections of the plan before are ready
	stale   bool   // the wanted connections must be selected again
	leaves  bool   // calls need the other cluster

	plan    *plan
	number  uint64    // of plan
	timed   bool      // a connection may have a closeAt or retryAt
	nextAt  time.Time // when further endpoints are tried in parallel; zero: never
	knownAt time.Time // when the first awaited connection becomes late; zero: none is awaited

	epoch epoch
	out   effects
}

// effects are commands for the shell: it carries out steps in order, and then publishes a picker.
type effects struct {
	steps   []step
	publish bool
}

// step is one operation on a connection.
type step struct {
	action action
	conn   *conn
}

type action int

const (
	dial     action = iota // connect
	watch                  // watch its health
	shutDown               // close it
)

func newCore(statsOf func(addr string) *picking.Stats) core {
	return core{statsOf: statsOf, conns: make(map[string]*conn)}
}

// connTo returns the connection to the address of an endpoint.
func (c *core) connTo(ep *resolver.Endpoint) *conn {
	addr := address(ep)
	x := c.conns[addr]
	if x == nil {
		x = newConn(addr, c.statsOf(addr))
		c.conns[addr] = x
		c.all = append(c.all, x)
	}
	return x
}

// update puts a new plan in force.
func (c *core) update(next *plan, now time.Time) {
	before := c.plan
	c.number++
	next.conns = make([]*conn, len(next.endpoints))
	if before != nil {
		same, behind := alike(before.endpoints[:before.live], next.endpoints[:next.live])
		copy(next.conns, before.conns[:same])
		copy(next.conns[next.live-behind:next.live], before.conns[before.live-behind:before.live])
	}
	for i := range next.endpoints {
		x := next.conns[i]
		if x == nil {
			x = c.connTo(&next.endpoints[i])
			next.conns[i] = x
			c.renew(x, next.endpoints[i], now)
		}
		if next.partOf(i) != left {
			x.inPlan = c.number
		}
	}
	c.startBack(before, next, now)
	c.plan = next
	next.adopt(before)
	c.serving = c.counts[ready] > 0
	c.want(now)
	c.serving = false
	c.dropNew(now)
	c.closeUnwanted(now)
	c.publish()
}

// left returns the connected endpoints of the plan that the next input no longer has.
func (c *core) left(next *input) (left []resolver.Endpoint) {
	if c.plan == nil {
		return nil
	}
	before := c.plan.in
	same, behind := alike(before.endpoints, next.endpoints)
	known := make(map[string]bool)
	for addr := range addresses(next.endpoints[same:len(next.endpoints)-behind], next.away) {
		known[addr] = true
	}
	lists := [][]resolver.Endpoint{before.endpoints[same : len(before.endpoints)-behind], before.left}
	if next.fallsBack {
		lists = append(lists, before.away)
	}
	for _, endpoints := range lists {
		for i := range endpoints {
			addr := address(&endpoints[i])
			if x := c.conns[addr]; x != nil && x.state == connectivity.Ready && !known[addr] {
				known[addr] = true
				left = append(left, endpoints[i])
			}
		}
	}
	return left
}

// renew replaces the endpoint of x by its newest entry.
func (c *core) renew(x *conn, ep resolver.Endpoint, now time.Time) {
	if startedAnew(x.endpoint, ep) {
		c.start(x, now)
	}
	x.endpoint = ep
	if x.is(ready) {
		x.stats.Ready(attr.Endpoint(ep), now)
	}
}

// startBack treats a server whose held entry has reappeared in etcd as restarted: some layouts cannot record a start time.
func (c *core) startBack(before, next *plan, now time.Time) {
	if before == nil {
		return
	}
	for addr := range before.in.held {
		if _, held := next.in.held[addr]; !held && c.conns[addr] != nil {
			c.start(c.conns[addr], now)
		}
	}
}

// start handles a restart of the server of x: it ends an attempt to connect and gRPC's backoff, which belong to the server before.
func (c *core) start(x *conn, now time.Time) {
	if x.state == connectivity.Connecting || x.state == connectivity.TransientFailure || now.Before(x.retryAt) {
		c.close(x)
	}
}

// want selects the connections that the plan uses, and connects them.
func (c *core) want(now time.Time) {
	c.stale, c.leaves, c.counts, c.nextAt = false, false, [3]int{}, time.Time{}
	for _, x := range c.all {
		x.wasWanted, x.wanted = x.wanted, false
	}
	p := c.plan
	if !p.traits.Single && !p.chooses() {
		for _, x := range p.conns[:p.live] {
			c.wants(x, now)
		}
	}
	for _, v := range p.called() {
		for i := range v.groups {
			c.wantGroup(v, &v.groups[i], now)
		}
	}
	for _, x := range c.all {
		if x.isUsed() {
			x.closeAt = time.Time{}
			c.connect(x, now)
		} else if x.closeAt.IsZero() && !x.isNew() {
			x.closeAt, c.timed = now.Add(linger), true
		}
	}
}

func (c *core) wants(x *conn, now time.Time) {
	if !x.wanted {
		x.wanted = true
		c.counts[x.current.Load().readiness]++
		c.connect(x, now)
	}
}

// wantGroup wants the connections of a group, tier by tier. Under pick_first, it wants the first ready one and those before it
// that are still tried. Under other policies, it wants all that each tier uses. It wants the last resort only while nothing else
// can take calls.
func (c *core) wantGroup(v *view, g *group, now time.Time) {
	next := true // whether the next tier may be tried, too
	for _, t := range g.tiers {
		members := t.use.Load().members
		switch {
		case t.class == left && v.isServed(left), t.class == drained && !v.lacks(left), t.class == away && !v.lacks(away):
			continue
		case t.class == left:
			for _, m := range members {
				if x := c.plan.conns[m]; x.state == connectivity.Ready { // healthy or not
					c.wants(x, now)
				}
			}
			continue
		case t.class == away:
			c.leaves = true
		}
		if t.ranking != nil {
			members = c.choose(t, now)
		}
		switch {
		case !c.plan.traits.Single:
			for _, m := range members {
				c.wants(c.plan.conns[m], now)
			}
		case c.wantReady(t, members, now):
			return
		default:
			next = next && c.wantTrying(members, now)
		}
	}
}

// choose selects the members of a tier that the connection uses: the shortest prefix of the ranking that has enough reachable
// members. So an unreachable member gives its place to the next, and has it back once it can be reached. Until enough of the
// prefix are ready, ready members behind it stay.
func (c *core) choose(t *tier, now time.Time) []int32 {
	conns, served := c.plan.conns, 0
	chosen := prefix(t.ranking, t.most+c.more(t, now), func(m int32) bool {
		x := conns[m]
		if !c.plan.traits.Single {
			c.wants(x, now)
		}
		if x.is(ready) {
			served++
		}
		return x.is(ready) || x.is(trying) && !x.current.Load().late
	})
	for _, m := range t.ranking[len(chosen):] {
		if served < t.most && conns[m].is(ready) {
			served++
			c.wants(conns[m], now)
			chosen = append(chosen, m)
		}
	}
	t.uses(c.plan, chosen)
	return t.use.Load().members
}

// more returns how many members a tier tries beyond its most: while none is ready, one more every nextWithin, as under
// pick_first.
func (c *core) more(t *tier, now time.Time) int {
	var begun time.Time
	for _, m := range t.ranking {
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
	c.nextAt = earliest(c.nextAt, begun.Add((steps+1)*nextWithin))
	return int(steps)
}

// wantReady wants the ready member that pick_first sends calls to, and reports whether there is one. That is the one of before
// while it is a ready member, else the first ready member, or rather the first that was already wanted: the others are connected
// only for calls that name them.
func (c *core) wantReady(t *tier, members []int32, now time.Time) bool {
	before, first := t.first.Load(), (*conn)(nil)
	for _, m := range members {
		x := c.plan.conns[m]
		if x.is(ready) && (first == nil || x == before || x.wasWanted && !first.wasWanted && first != before) {
			first = x
		}
	}
	t.first.Store(first)
	if first != nil {
		c.wants(first, now)
	}
	return first != nil
}

// wantTrying wants the first member that has not failed yet, and one more every nextWithin; if all have failed, all. It reports
// whether the next tier may be tried, too.
func (c *core) wantTrying(members []int32, now time.Time) bool {
	some := false
	for _, m := range members {
		x := c.plan.conns[m]
		if !x.is(trying) {
			continue
		}
		some = true
		c.wants(x, now)
		if next := x.triedAt.Add(nextWithin); now.Before(next) {
			c.nextAt = earliest(c.nextAt, next)
			return false
		}
	}
	if !some {
		for _, m := range members {
			c.wants(c.plan.conns[m], now)
		}
	}
	return true
}

// connect connects x unless it is connected or in its pause. It makes no connection to an endpoint that has left.
func (c *core) connect(x *conn, now time.Time) {
	switch {
	case x.state != connectivity.Idle || x.dialing:
	case now.Before(x.retryAt):
		c.timed = true
	case x.named || x.inPlan == c.number:
		if x.current.Load() == untried && c.serving {
			c.set(x, joined)
		}
		x.dialing = true
		c.await(x, now)
		c.do(dial, x)
	}
}

// await starts the time after which x is late.
func (c *core) await(x *conn, now time.Time) {
	x.triedAt = now
	if c.knownAt.IsZero() {
		c.knownAt = now.Add(knownWithin)
	}
}

// dropNew marks connections for closing now that were never dialed and that no plan has any more.
func (c *core) dropNew(now time.Time) {
	for _, x := range c.all {
		if x.inPlan != c.number && !x.isUsed() && x.isNew() {
			x.closeAt = now
		}
	}
}

// closeUnwanted closes the connections whose closeAt has come, and forgets those that the plan does not have.
func (c *core) closeUnwanted(now time.Time) {
	kept := c.all[:0]
	for _, x := range c.all {
		if !x.closeAt.IsZero() && !now.Before(x.closeAt) {
			if c.close(x); x.inPlan != c.number {
				delete(c.conns, x.addr)
				continue
			}
		}
		kept = append(kept, x)
	}
	clear(c.all[len(kept):])
	c.all = kept
}

// close closes x and resets it.
func (c *core) close(x *conn) {
	c.do(shutDown, x)
	x.state, x.dialing, x.open = connectivity.Idle, false, false
	x.retryAt, x.closeAt = time.Time{}, time.Time{}
	c.set(x, untried)
}

// name connects the endpoint of an instance that a call has named, and returns its connection.
func (c *core) name(ep *resolver.Endpoint, now time.Time) *conn {
	x := c.connTo(ep)
	c.keep(x, ep, now)
	c.publish()
	c.connect(x, now)
	return x
}

// keep keeps x open while calls may name its instance, which is at ep. It replaces the endpoint of x only if the entry has
// changed: the plan's copy may carry more.
func (c *core) keep(x *conn, ep *resolver.Endpoint, now time.Time) {
	x.named, x.closeAt = true, time.Time{}
	if len(x.endpoint.Addresses) == 0 || attr.Endpoint(x.endpoint) != attr.Endpoint(*ep) {
		c.renew(x, *ep, now)
	}
}

// forget handles that calls can no longer name the instance of x.
func (c *core) forget(x *conn, now time.Time) {
	x.named = false
	if !x.wanted {
		x.closeAt, c.timed = now.Add(linger), true
	}
}

// changed handles a state of the SubConn of x.
func (c *core) changed(x *conn, s balancer.SubConnState, now time.Time) {
	was := x.state
	x.state, x.dialing, x.open = s.ConnectivityState, false, false
	switch s.ConnectivityState {
	case connectivity.Connecting:
	case connectivity.Ready:
		c.do(watch, x)
		if x.open = c.plan.in.health == ""; x.open { // outlier detection does not report what it had ejected before
			next := *x.current.Load()
			c.set(x, &next)
			if x.named {
				c.publish()
			}
		}
	case connectivity.TransientFailure:
		c.set(x, &condition{readiness: failing, err: s.ConnectionError})
	case connectivity.Idle:
		if was != connectivity.TransientFailure { // gRPC has waited after that; else it connects again at once, as gRPC's own policies do
			c.set(x, &condition{readiness: trying})
		}
		if x.isUsed() {
			c.connect(x, now)
		}
	case connectivity.Shutdown:
		return // by ourselves
	}
	c.follow()
}

// follow marks the selection stale if the new condition of a connection may change it.
func (c *core) follow() {
	p := c.plan
	c.stale = c.stale || p.traits.Single || p.live < len(p.endpoints) || p.chooses()
}

// reselect selects the plan's connections if the selection is stale. It visits each connection, so it runs once for many events.
func (c *core) reselect(now time.Time) {
	if c.stale && c.plan != nil {
		c.want(now)
	}
}

// health handles a report on the health of x.
func (c *core) health(x *conn, s balancer.SubConnState, now time.Time) {
	if x.state != connectivity.Ready {
		return
	}
	switch s.ConnectivityState {
	case connectivity.Ready:
		x.open = true
		x.stats.Ready(attr.Endpoint(x.endpoint), now)
		c.set(x, &condition{readiness: ready})
	case connectivity.TransientFailure:
		x.open = x.open && s.ConnectionError == nil // a health check has an error, an ejection has none
		c.set(x, &condition{readiness: failing, err: cmp.Or(s.ConnectionError, errUnwell)})
	default:
		if x.is(ready) {
			x.open = false
			c.set(x, &condition{readiness: trying})
			c.await(x, now)
		}
	}
	c.follow()
}

// watchAgain watches the health of connections again: gRPC uses the service config in force when a watch begins.
func (c *core) watchAgain() {
	for _, x := range c.all {
		if x.state == connectivity.Ready {
			c.do(watch, x)
		}
	}
}

// failed handles a failure to make a SubConn for x.
func (c *core) failed(x *conn, err error, now time.Time) {
	x.dialing = false
	x.retryAt, c.timed = now.Add(retryAfter), true
	c.set(x, &condition{readiness: failing, err: err})
	c.follow()
}

// viewMade handles a view that calls have added to the plan.
func (c *core) viewMade(now time.Time) {
	c.want(now)
	c.publish()
}

// expire handles that the time of wake has come.
func (c *core) expire(now time.Time) {
	if !c.nextAt.IsZero() && !now.Before(c.nextAt) {
		c.want(now)
	}
	for _, x := range c.all {
		if x.isUsed() {
			c.connect(x, now)
		}
	}
	c.countLate(now)
	c.closeUnwanted(now)
}

// countLate marks the awaited connections whose time is up as late.
func (c *core) countLate(now time.Time) {
	if c.knownAt.IsZero() || now.Before(c.knownAt) {
		return
	}
	c.knownAt = time.Time{}
	for _, x := range c.all {
		if !x.isAwaited() {
			continue
		}
		if at := x.triedAt.Add(knownWithin); now.Before(at) {
			c.knownAt = earliest(c.knownAt, at)
			continue
		}
		c.set(x, &condition{readiness: trying, late: true})
		c.publish()
	}
	c.follow()
}

// closeAll ends everything.
func (c *core) closeAll() {
	for _, x := range c.all {
		c.do(shutDown, x)
	}
	c.conns, c.all, c.plan, c.leaves = nil, nil, nil, false
}

// publish makes a new picker due, with which gRPC picks again for calls that wait.
func (c *core) publish() {
	c.epoch.Add(1)
	c.out.publish = true
}

func (c *core) do(a action, x *conn) { c.out.steps = append(c.out.steps, step{a, x}) }

// set sets the condition of x.
func (c *core) set(x *conn, next *condition) {
	was, is := x.current.Load().readiness, next.readiness
	if x.wanted {
		c.counts[was]--
		c.counts[is]++
	}
	// A connection that fails again while others are ready changes no pick.
	if was != is || is == ready || c.counts[ready] == 0 {
		c.publish()
	}
	if is == ready {
		next.subConn = x.subConn
	}
	if x.open {
		next.named = x.subConn
	}
	x.current.Store(next)
}

// flush returns the effects since the last flush.
func (c *core) flush() effects {
	out := c.out
	c.out = effects{}
	return out
}

// wake returns when to call expire; zero: never. It may be in the past: some times come while events are handled.
func (c *core) wake() (at time.Time) {
	sooner := func(t time.Time) { at = earliest(at, t) }
	if c.timed {
		for _, x := range c.all {
			sooner(x.closeAt)
			if x.state == connectivity.Idle && !x.dialing && x.isUsed() {
				sooner(x.retryAt)
			}
		}
		c.timed = !at.IsZero()
	}
	sooner(c.nextAt)
	sooner(c.knownAt)
	return at
}

// earliest returns the earlier of two times; zero: never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// state returns the connectivity of what picks use.
func (c *core) state() connectivity.State {
	in := c.plan.in
	switch {
	case c.counts[ready] > 0, in.client.TargetsOnly:
		return connectivity.Ready
	case c.counts[trying] > 0, in.pending && len(c.plan.endpoints) == 0:
		return connectivity.Connecting
	}
	return connectivity.TransientFailure
}
