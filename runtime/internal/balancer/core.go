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
	// retryAfter is how long no connection is tried after gRPC could not make one.
	retryAfter = time.Second
	// nextWithin is how long one endpoint of pick_first may take to connect before the next is tried beside it, as in
	// gRPC's own (A61).
	nextWithin = 250 * time.Millisecond
	// knownWithin is how long an endpoint may take to connect and tell its health before it counts as one that does not serve, so
	// that calls need not wait for gRPC to give up, which takes 20 s, or for a health service that says nothing. So may a policy
	// of others.
	knownWithin = time.Second
)

// errUnwell is the error of calls where gRPC does not say why an endpoint is not well, such as that it is ejected.
var errUnwell = errors.New("etcd: the endpoint is not healthy, or outlier detection has ejected it")

// core decides which connections there are, and which plan picks go by. Its methods are the events; they note the effects.
// It does nothing itself.
//
// A new plan is in force at once. It never leaves calls without a connection that the plan before had: see plan.live.
type core struct {
	statsOf func(addr string) *picking.Stats // what is remembered of an address
	conns   map[string]*conn                 // by address
	all     []*conn
	counts  [3]int // of the connections that are wanted, by readiness
	serving bool   // a new plan comes while others serve
	stale   bool   // they are to be selected anew

	plan    *plan
	before  *plan     // its child serves until plan does; nil: there is none
	number  uint64    // of plan
	timed   bool      // time alone may change something
	nextAt  time.Time // when endpoints are tried beside those that take long to connect; zero: never
	knownAt time.Time // when the first of those that are awaited is to be known, or was; zero: none is

	childAt   time.Time // when the child, which connects, is late; zero: it does not connect
	childLate bool      // ... and has been for knownWithin

	out effects
}

// effects are what the shell is to do, in the order of steps, and then publish a picker.
type effects struct {
	steps   []step
	publish bool
	ended   []*plan // that no picker goes by any more
}

// step is something that the shell has gRPC do with a connection.
type step struct {
	action action
	conn   *conn
}

type action int

const (
	dial     action = iota // connect
	watch                  // ask for its health
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
		if !next.hasLeft(i) {
			x.inPlan = c.number
		}
	}
	c.startBack(before, next, now)
	c.plan = next
	if before == nil || before.child != next.child {
		c.childAt, c.childLate = time.Time{}, false
	}
	c.succeed(before)
	c.followChild(now)
	next.adopt(before)
	c.serving = c.counts[ready] > 0
	c.want(now)
	c.serving = false
	c.dropUnknown(now)
	c.closeUnwanted(now)
	c.settle()
	c.out.publish = true
}

// left returns the endpoints that the plan has, the key of the next one does not, and that are connected.
func (c *core) left(next *input) (left []resolver.Endpoint) {
	if c.plan == nil {
		return nil
	}
	before := c.plan.in
	same, behind := alike(before.endpoints, next.endpoints)
	known := make(map[string]bool)
	for addr := range addresses(next.endpoints[same : len(next.endpoints)-behind]) {
		known[addr] = true
	}
	for _, endpoints := range [][]resolver.Endpoint{before.endpoints[same : len(before.endpoints)-behind], before.left} {
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

// succeed keeps the child of the plan before while that serves and the plan does not yet, as gRPC does where it switches policies.
func (c *core) succeed(before *plan) {
	if before == nil {
		return
	}
	if c.before == nil && before.child != nil && before.child != c.plan.child && !c.plan.in.client.TargetsOnly {
		c.before = before
		return
	}
	c.out.ended = append(c.out.ended, before)
}

// settle ends the child of the plan before once the plan serves, or that child does not.
func (c *core) settle() {
	if b := c.before; b != nil && (c.serves() || b.child.State() != connectivity.Ready) {
		c.before = nil
		c.out.ended = append(c.out.ended, b)
		c.out.publish = true
	}
}

// renew takes what the entry of x says now.
func (c *core) renew(x *conn, ep resolver.Endpoint, now time.Time) {
	if startedAnew(x.endpoint, ep) {
		c.start(x, now)
	}
	x.endpoint = ep
	if x.is(ready) {
		x.stats.Ready(attr.Endpoint(ep), now)
	}
}

// startBack takes it that servers have started anew whose entries etcd has again: not every layout has room for them to say so.
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

// start takes the news that the server of x has started anew: what there was before is no reason for gRPC's pause after attempts
// that failed.
func (c *core) start(x *conn, now time.Time) {
	if x.isConnecting() || now.Before(x.retryAt) {
		c.close(x)
	}
}

// want marks what the plan wants, and connects to it.
func (c *core) want(now time.Time) {
	c.stale, c.counts, c.nextAt = false, [3]int{}, time.Time{}
	for _, x := range c.all {
		x.wasWanted, x.wanted = x.wanted, false
	}
	p := c.plan
	switch {
	case p.child != nil:
		c.wantConnected(p.conns, now)
	case !p.traits.Single && !p.chooses():
		for _, x := range p.conns[:p.live] {
			c.wants(x, now)
		}
	}
	if p.child == nil || c.childFails() {
		for _, v := range p.called() {
			for i := range v.groups {
				c.wantGroup(v, &v.groups[i], now)
			}
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

// wantConnected wants those of some connections that are connected, healthy or not, unless the plan's child is ready: calls go to
// them until it is.
func (c *core) wantConnected(conns []*conn, now time.Time) {
	if c.plan.child != nil && c.plan.child.State() == connectivity.Ready {
		return
	}
	for _, x := range conns {
		if x.state == connectivity.Ready {
			c.wants(x, now)
		}
	}
}

// wantGroup wants what calls of a group may go to: by pick_first the first that is ready, of the first tier that has one, and
// what may be of the tiers before that, or of all; otherwise what the connection uses of each tier. The last resort is wanted
// only while it is needed.
func (c *core) wantGroup(v *view, g *group, now time.Time) {
	next := true // of what is not tried yet may be
	for _, t := range g.tiers {
		members := t.use.Load().members
		switch {
		case t.class == left:
			if !v.isServed() {
				c.wantConnected(c.plan.connsOf(members), now)
			}
			continue
		case t.class == drained && !v.lacks():
			continue
		case t.ranking != nil:
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

// choose decides which members of a tier the connection uses: as much of the ranking as has enough members that can be reached.
// One that cannot be reached gives its place to another in this way, and has it back once it can. Until enough of these are ready,
// others that are ready already stay.
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

// more returns how many members are connected to beside those that a tier has places for: while none is ready, one more each time
// that a connection takes long, as by pick_first.
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

// wantReady wants of the members of a tier the one that its calls go to, while that is ready, and then the first that is, and was
// wanted before if there is one: others are connected for calls that name them. It reports whether there is one.
func (c *core) wantReady(t *tier, members []int32, now time.Time) bool {
	first := t.first.Load()
	if first == nil || !first.is(ready) {
		first = nil
		for _, m := range members {
			if x := c.plan.conns[m]; x.is(ready) && (first == nil || x.wasWanted && !first.wasWanted) {
				first = x
			}
		}
		t.first.Store(first)
	}
	if first != nil {
		c.wants(first, now)
	}
	return first != nil
}

// wantTrying wants the first of some members that is not tried yet, and after a while the next as well; if all were tried, all. It
// reports whether the next tier is to be tried, too.
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

// connect connects to x unless it is connected, or must wait. A connection to an endpoint that has left is not made again.
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

// await has x be late after a while.
func (c *core) await(x *conn, now time.Time) {
	x.triedAt = now
	if c.knownAt.IsZero() {
		c.knownAt = now.Add(knownWithin)
	}
}

// dropUnknown closes at once what nothing wants and is not connected, if its address has left or nothing was done about it yet.
func (c *core) dropUnknown(now time.Time) {
	var known map[string]bool
	for _, x := range c.all {
		if x.inPlan == c.number || x.isUsed() {
			continue
		}
		if known == nil {
			known = make(map[string]bool, len(c.plan.in.endpoints))
			for i := range c.plan.in.endpoints {
				known[address(&c.plan.in.endpoints[i])] = true
			}
		}
		if !known[x.addr] && x.state != connectivity.Ready || x.isNew() {
			x.closeAt = now
		}
	}
}

// closeUnwanted closes what nothing has wanted for a while, and forgets what the plan does not have.
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

// close closes x, which is then as new.
func (c *core) close(x *conn) {
	c.do(shutDown, x)
	x.state, x.dialing, x.open = connectivity.Idle, false, false
	x.retryAt, x.closeAt = time.Time{}, time.Time{}
	c.set(x, untried)
}

// name takes the news that a call has named the instance at an endpoint, and returns its connection.
func (c *core) name(ep *resolver.Endpoint, now time.Time) *conn {
	x := c.connTo(ep)
	c.keep(x, ep, now)
	c.out.publish = true
	c.connect(x, now)
	return x
}

// keep takes the news that calls can name the instance of x, which is at an endpoint. Of one that says what it did, the plan
// may know more.
func (c *core) keep(x *conn, ep *resolver.Endpoint, now time.Time) {
	x.named, x.closeAt = true, time.Time{}
	if len(x.endpoint.Addresses) == 0 || attr.Endpoint(x.endpoint) != attr.Endpoint(*ep) {
		c.renew(x, *ep, now)
	}
}

// forget takes the news that calls cannot name the instance of x any more.
func (c *core) forget(x *conn, now time.Time) {
	x.named = false
	if !x.wanted {
		x.closeAt, c.timed = now.Add(linger), true
	}
}

// changed takes a state of the SubConn of x.
func (c *core) changed(x *conn, s balancer.SubConnState, now time.Time) {
	was := x.state
	x.state, x.dialing, x.open = s.ConnectivityState, false, false
	switch s.ConnectivityState {
	case connectivity.Connecting:
	case connectivity.Ready:
		c.do(watch, x)
		if x.open = c.plan.in.health == ""; x.open { // outlier detection tells nothing of what it had ejected before
			next := *x.current.Load()
			c.set(x, &next)
			c.out.publish = c.out.publish || x.named
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

// follow notes whether the new condition of a connection may make a difference to what the plan wants.
func (c *core) follow() {
	p := c.plan
	c.stale = c.stale || p.traits.Single || p.live < len(p.endpoints) || p.chooses() || c.childFails()
	c.settle()
}

// reselect selects the plan's connections anew if that is due. It is called once for many events, for it looks at each connection.
func (c *core) reselect(now time.Time) {
	if c.stale && c.plan != nil {
		c.want(now)
	}
}

// health takes what is known of the health of x, which is connected.
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
		x.open = x.open && s.ConnectionError == nil // a health check says why
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

// watchAgain has the health of what is connected asked for anew: gRPC goes by the service config of the time when it is asked.
func (c *core) watchAgain() {
	for _, x := range c.all {
		if x.state == connectivity.Ready {
			c.do(watch, x)
		}
	}
}

// failed takes the news that no SubConn could be made for x.
func (c *core) failed(x *conn, err error, now time.Time) {
	x.dialing = false
	x.retryAt, c.timed = now.Add(retryAfter), true
	c.set(x, &condition{readiness: failing, err: err})
	c.follow()
}

// pickAgain has what waits picked for anew.
func (c *core) pickAgain() { c.out.publish = true }

// viewMade takes the news that calls have asked the plan for another view.
func (c *core) viewMade(now time.Time) {
	c.want(now)
	c.out.publish = true
}

// childChanged takes the news that the child has published something.
func (c *core) childChanged(now time.Time) {
	c.followChild(now)
	c.stale = c.stale || c.plan.child != nil && (c.counts != [3]int{} || c.childFails())
	c.settle()
	c.out.publish = true
}

// childFails reports whether the plan's child can call nothing that it was given: then the plan looks at all that it has, as by a way
// of our own.
func (c *core) childFails() bool {
	return c.plan.child != nil && (c.childLate || c.plan.child.State() == connectivity.TransientFailure)
}

// followChild notes for how long the child connects.
func (c *core) followChild(now time.Time) {
	switch {
	case c.plan == nil || c.plan.child == nil || c.plan.child.State() != connectivity.Connecting:
		c.childAt, c.childLate = time.Time{}, false
	case c.childAt.IsZero():
		c.childAt = now.Add(knownWithin)
	case !c.childLate && !now.Before(c.childAt):
		c.childLate, c.stale, c.out.publish = true, true, true
	}
}

// expire takes the time.
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
	c.followChild(now)
	c.closeUnwanted(now)
}

// countLate has those that take too long to connect, or to tell their health, be late.
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
		c.out.publish = true
	}
	c.follow()
}

// closeAll ends everything.
func (c *core) closeAll() {
	for _, x := range c.all {
		c.do(shutDown, x)
	}
	for _, p := range []*plan{c.before, c.plan} {
		if p != nil {
			c.out.ended = append(c.out.ended, p)
		}
	}
	c.conns, c.all, c.before, c.plan = nil, nil, nil, nil
}

func (c *core) do(a action, x *conn) { c.out.steps = append(c.out.steps, step{a, x}) }

// set sets the condition of x.
func (c *core) set(x *conn, next *condition) {
	was, is := x.current.Load().readiness, next.readiness
	if x.wanted {
		c.counts[was]--
		c.counts[is]++
	}
	// What fails again while others serve is no news.
	c.out.publish = c.out.publish || was != is || is == ready || c.counts[ready] == 0
	if is == ready {
		next.subConn = x.subConn
	}
	if x.open {
		next.named = x.subConn
	}
	x.current.Store(next)
}

// flush returns the effects since it was last called.
func (c *core) flush() effects {
	out := c.out
	c.out = effects{}
	return out
}

// wake returns when expire is to be called, for time alone will change something by then; zero: never. It may be past, for
// what falls due while events are handled is not seen by expire.
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
	if !c.childLate {
		sooner(c.childAt)
	}
	return at
}

// earliest returns the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// state returns the connectivity of what picks go by.
func (c *core) state() connectivity.State {
	switch {
	case c.before != nil, c.counts[ready] > 0:
		return connectivity.Ready
	case c.plan.instead != nil:
		return c.plan.instead.state
	case c.plan.child != nil:
		return c.plan.child.State()
	case c.counts[trying] > 0:
		return connectivity.Connecting
	}
	return connectivity.TransientFailure
}

// serves reports whether the plan serves.
func (c *core) serves() bool {
	switch {
	case c.plan.instead != nil:
		return false
	case c.plan.child != nil:
		return c.plan.child.State() == connectivity.Ready
	}
	return c.counts[ready] > 0
}

// connects reports whether calls go to connections of the plan though it has nothing to call, or another policy does.
func (c *core) connects() bool {
	return c.counts[ready] > 0 && (c.plan.instead != nil || c.plan.child != nil && c.plan.child.State() != connectivity.Ready)
}
