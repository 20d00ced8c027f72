package balancer

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

const (
	// settleWithin is how long a new plan may take to serve.
	settleWithin = 5 * time.Second
	// linger is how long a connection is kept that nothing wants, while its address is known: another plan may be about
	// to want it.
	linger = 5 * time.Second
	// lasting is how long a connection must last for the next to be made at once. gRPC spaces attempts that fail; a
	// server that takes connections and ends them would be connected to without end.
	lasting = time.Second
	// nextWithin is how long one endpoint of pick_first may take to connect before the next is tried beside it, as in
	// gRPC's own (A61).
	nextWithin = 250 * time.Millisecond
	// knownWithin is how long an endpoint may take to connect and tell its health before it counts as one that does not serve, so
	// that calls need not wait for gRPC to give up, which takes 20 s, or for a health service that says nothing. So may a policy
	// of others.
	knownWithin = time.Second
	// unwellFor is how long an endpoint that is connected to and does not serve keeps its permit while others wait for one: long
	// enough for most to recover, and short beside the 20 s for which one that hangs has its own.
	unwellFor = 5 * time.Second
	// slowest bounds how long such a server is left alone, as gRPC does with one that refuses.
	slowest = 2 * time.Minute
)

// errEnded is the error of calls while connections do not last.
var errEnded = errors.New("etcd: the server has ended the connection, and others before: see its log")

// errUnwell is the error of calls where gRPC does not say why an endpoint is not well, such as that it is ejected.
var errUnwell = errors.New("etcd: the endpoint is not healthy, or outlier detection has ejected it")

// core decides which connections there are, and which plan picks go by. Its methods are the events; they note the effects.
// It does nothing itself.
//
// A new plan takes over each call's view as soon as that can serve, or nothing in it is left to be tried. Until then, and
// for settleWithin at most, the old plan serves it, without what may not be called any more.
type core struct {
	statsOf func(addr string) *picking.Stats // what is remembered of an address
	conns   map[string]*conn                 // by address
	all     []*conn
	counts  [3]int // of the connections that are wanted, by readiness
	leader  *conn  // to the leader that calls go to, which has a place whatever the limit; nil: none

	plan     *plan
	number   uint64    // of plan
	old      *plan     // serves what plan cannot yet; nil: there is none
	excluded []bool    // the endpoints of old that may not be called any more
	deadline time.Time // when old ends
	timed    bool      // time alone may change something
	nextAt   time.Time // when the next endpoint of pick_first is tried; zero: never
	knownAt  time.Time // when the first of those that are awaited is to be known, or was; zero: none is
	roomAt   time.Time // when the first of those that do not serve is to make room, or was; zero: none is
	fullAt   time.Time // when a permit was refused last, for which others have yet to make room; zero: none was

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
	dial     action = iota // connect, once there is a permit
	watch                  // ask for its health
	shutDown               // close it
	release                // give its permit back
	yield                  // have its permit be the leader's no longer
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

// update takes a new plan.
func (c *core) update(next *plan, now time.Time) {
	before := c.plan
	c.number++
	next.conns = make([]*conn, len(next.endpoints))
	if before != nil {
		same, behind := alike(before.endpoints, next.endpoints)
		copy(next.conns, before.conns[:same])
		copy(next.conns[len(next.endpoints)-behind:], before.conns[len(before.endpoints)-behind:])
	}
	for i := range next.endpoints {
		x := next.conns[i]
		if x == nil {
			x = c.connTo(&next.endpoints[i])
			next.conns[i] = x
			c.renew(x, next.endpoints[i], now)
		}
		x.inPlan = c.number
	}
	c.startBack(before, next, now)
	if c.old == nil || before.isSettled() {
		c.retire(c.old)
		c.old, c.deadline = before, now.Add(settleWithin)
	} else {
		c.retire(before)
	}
	c.plan = next
	if before == nil || before.child != next.child {
		c.childAt, c.childLate = time.Time{}, false
	}
	c.followChild(now)
	c.exclude()
	next.adopt(before)
	c.want(now)
	c.dropUnknown(now)
	c.closeUnwanted(now)
	c.settle(now)
	c.out.publish = true
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

// start takes the news that the server of x has started anew: what there was before is no reason for a pause, neither gRPC's
// after attempts that failed nor that after connections that did not last.
func (c *core) start(x *conn, now time.Time) {
	x.shortLived = 0
	if x.isConnecting() || now.Before(x.retryAt) {
		c.close(x)
	}
}

// retire notes that no picker goes by a plan any more.
func (c *core) retire(p *plan) {
	if p != nil {
		c.out.ended = append(c.out.ended, p)
	}
}

// want marks what the plan wants, and connects to it.
func (c *core) want(now time.Time) {
	c.counts, c.nextAt = [3]int{}, time.Time{}
	for _, x := range c.all {
		x.wasWanted, x.wanted = x.wanted, false
	}
	p := c.plan
	switch {
	case p.instead != nil:
	case p.child != nil:
		c.wantOld(now)
	case p.traits.Single:
		c.wantFirst(now)
	case p.chooses():
		c.wantInTurn(now)
	default:
		if b := p.in.client.Connections; b != nil && len(p.endpoints) > b.Limit() {
			c.wantInTurn(now)
		}
		for _, x := range p.conns {
			c.wants(x, now)
		}
	}
	spare := false
	for _, x := range c.all {
		if x.isUsed() {
			x.closeAt = time.Time{}
			c.connect(x, now)
		} else if x.closeAt.IsZero() && !x.isNew() {
			x.closeAt, c.timed = now.Add(linger), true
		}
		spare = spare || x.makesRoom()
	}
	if !spare {
		return
	}
	for _, x := range c.all { // what waits for a permit asks again, and has what is spare make room
		if x.awaitsPermit() {
			c.do(dial, x)
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

// wantOld wants what the old plan serves by, until the child does.
func (c *core) wantOld(now time.Time) {
	if c.old == nil {
		return
	}
	for _, x := range c.old.conns {
		if x.is(ready) && x.inPlan == c.number {
			c.wants(x, now)
		}
	}
}

// wantInTurn wants what calls may go to, in the order in which places are given, so that what is called is not without one
// for what is not: the first endpoint of each group, with those of the client's zone before others, of each lane, and of each
// set of methods; then the second of each group, and so on.
func (c *core) wantInTurn(now time.Time) {
	p := c.plan
	var groups [][]*conn
	for _, v := range p.called() {
		for i := range v.groups {
			groups = append(groups, slices.Collect(p.connsOf(&v.groups[i])))
		}
	}
	for i, more := 0, true; more; i++ {
		more = false
		for _, conns := range groups {
			if i < len(conns) {
				more = true
				c.wants(conns[i], now)
			}
		}
		if i == 0 && p.in.subsetOf() == 0 {
			for _, name := range slices.Sorted(maps.Keys(p.lanes)) {
				c.wants(p.conns[p.lanes[name].members[0]], now)
			}
		}
		if i == 0 && !p.chooses() { // else it need not be among those that calls choose from
			sets := p.classesOf(p.base.members)
			for class := range sets.texts {
				c.wants(p.conns[p.base.members[slices.Index(sets.of, uint8(class))]], now)
			}
		}
	}
}

// wantFirst wants of each group the first that is ready, of the first tier that has one. Of the tiers before that, or of all,
// it wants what may be.
func (c *core) wantFirst(now time.Time) {
	for _, v := range c.plan.called() {
		for _, g := range v.groups {
			next := true // of what is not tried yet may be
			for _, t := range g.tiers {
				if c.wantReady(t, now) {
					break
				}
				next = next && c.wantTrying(t, now)
			}
		}
	}
}

// wantReady wants of a tier the one that its calls go to, while that is ready, and then the first that is, and was wanted
// before if there is one: others are connected for calls that name them. It reports whether there is one.
func (c *core) wantReady(t *tier, now time.Time) bool {
	first := t.first.Load()
	if first == nil || !first.is(ready) {
		first = nil
		for _, m := range t.members {
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

// wantTrying wants of a tier the first that is not tried yet, and after a while the next as well; if all were tried, all. It
// reports whether the next tier is to be tried, too.
func (c *core) wantTrying(t *tier, now time.Time) bool {
	some := false
	for _, m := range t.members {
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
		for _, m := range t.members {
			c.wants(c.plan.conns[m], now)
		}
	}
	return true
}

// connect connects to x unless it is connected, or must wait.
func (c *core) connect(x *conn, now time.Time) {
	switch {
	case x.state != connectivity.Idle || x.dialing:
	case now.Before(x.retryAt):
		c.timed = true
	default:
		x.dialing = true
		c.dial(x, now)
	}
}

// dial has x connect now.
func (c *core) dial(x *conn, now time.Time) {
	c.await(x, now)
	c.do(dial, x)
}

// await has x be late after a while.
func (c *core) await(x *conn, now time.Time) {
	x.triedAt = now
	if c.knownAt.IsZero() {
		c.knownAt = now.Add(knownWithin)
	}
}

// dropUnknown has a connection that nothing wants closed now if its address has left, or nothing was done about it yet.
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
		if !known[x.addr] || x.isNew() {
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
	x.state, x.dialing, x.open, x.shortLived = connectivity.Idle, false, false, 0
	x.retryAt, x.closeAt, x.roomAt = time.Time{}, time.Time{}, time.Time{}
	c.set(x, untried)
}

// exclude finds what of the old plan may not be called any more, or says something else of itself than when the old plan was
// made. The plan is told of the others.
func (c *core) exclude() {
	c.excluded = nil
	if c.old == nil {
		return
	}
	c.excluded = make([]bool, len(c.old.endpoints))
	c.plan.shared = make([]bool, len(c.plan.endpoints))
	for i, x := range c.old.conns {
		c.excluded[i] = x.inPlan != c.number || !routedAlike(&c.old.endpoints[i], &x.endpoint)
		if !c.excluded[i] {
			x.inOld = c.number
		}
	}
	for i, x := range c.plan.conns {
		c.plan.shared[i] = x.inOld == c.number
	}
}

// settle ends the old plan if the new one has nothing left to be tried, or its time is up.
func (c *core) settle(now time.Time) {
	if c.old == nil {
		return
	}
	tried := c.counts[trying] == 0
	if c.plan.child != nil {
		tried = c.plan.child.State() != connectivity.Connecting
	}
	late := !now.Before(c.deadline) && c.plan.child == nil // of a child it is not known when it will serve
	if tried || late || !c.canServe(c.old) {
		c.retire(c.old)
		c.old, c.excluded = nil, nil
		c.out.publish = true
		if c.plan.child != nil {
			c.want(now)
		}
	}
}

// canServe reports whether a plan, the old one, can still serve. A child cannot once some of its endpoints may not be called
// any more, for it would go on to call them.
func (c *core) canServe(p *plan) bool {
	switch {
	case p.instead != nil:
		return false
	case p.child != nil:
		return p.child.State() == connectivity.Ready && !slices.Contains(c.excluded, true)
	}
	for i, x := range p.conns {
		if x.is(ready) && !c.excluded[i] {
			return true
		}
	}
	return false
}

// name takes the news that a call has named the instance at an endpoint, and returns its connection.
func (c *core) name(ep *resolver.Endpoint, now time.Time) *conn {
	x := c.connTo(ep)
	c.keep(x, ep, now)
	c.out.publish = true
	if x.dialing && x.state == connectivity.Idle { // it may wait for a permit, and goes first from now on
		c.do(dial, x)
	}
	c.connect(x, now)
	return x
}

// lead takes the news which connection calls for the leader go to; nil: none.
func (c *core) lead(x *conn) {
	was := c.leader
	if was == x {
		return
	}
	c.leader = x
	if was != nil {
		c.do(yield, was)
	}
	if x != nil && x.dialing && x.state == connectivity.Idle { // it may wait for a permit
		c.do(dial, x)
	}
}

// outbid takes the news that the permit of x was the leader's, and that there is none for it now.
func (c *core) outbid(x *conn, now time.Time) {
	if c.close(x); x.isUsed() {
		c.connect(x, now)
	}
	c.follow(now)
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
	x.state, x.dialing, x.open, x.roomAt = s.ConnectivityState, false, false, time.Time{}
	switch s.ConnectivityState {
	case connectivity.Connecting:
	case connectivity.Ready:
		x.readySince = now
		if !x.isAwaited() { // it failed or was late before, so nothing will say so again
			c.unwell(x, now)
		}
		c.do(watch, x)
		if x.open = c.plan.in.health == ""; x.open { // outlier detection tells nothing of what it had ejected before
			next := *x.current.Load()
			c.set(x, &next)
			c.out.publish = c.out.publish || x.named
		}
	case connectivity.TransientFailure:
		c.do(release, x)
		c.set(x, &condition{readiness: failing, err: s.ConnectionError})
	case connectivity.Idle:
		c.ended(x, was, now)
	case connectivity.Shutdown:
		return // by ourselves
	}
	c.follow(now)
}

// follow does what follows from the new condition of a connection.
func (c *core) follow(now time.Time) {
	if c.plan.traits.Single {
		c.want(now)
	}
	c.settle(now)
}

// ended takes the news that the connection of x, which was in a state, is no more.
func (c *core) ended(x *conn, was connectivity.State, now time.Time) {
	if was != connectivity.TransientFailure { // gRPC has seen to that
		if x.shortLived++; was == connectivity.Ready && now.Sub(x.readySince) >= lasting {
			x.shortLived = 0
		}
		if x.shortLived > 1 { // once may be chance
			x.retryAt, c.timed = now.Add(min(slowest, lasting<<min(x.shortLived-2, 10))), true
			c.set(x, &condition{readiness: failing, err: errEnded})
		} else {
			c.set(x, &condition{readiness: trying})
		}
	}
	if x.isUsed() {
		c.connect(x, now)
	}
	if !x.dialing {
		c.do(release, x)
	}
}

// health takes what is known of the health of x, which is connected.
func (c *core) health(x *conn, s balancer.SubConnState, now time.Time) {
	if x.state != connectivity.Ready {
		return
	}
	switch s.ConnectivityState {
	case connectivity.Ready:
		x.open, x.roomAt = true, time.Time{}
		x.stats.Ready(attr.Endpoint(x.endpoint), now)
		c.set(x, &condition{readiness: ready})
	case connectivity.TransientFailure:
		x.open = x.open && s.ConnectionError == nil // a health check says why
		c.set(x, &condition{readiness: failing, err: cmp.Or(s.ConnectionError, errUnwell)})
		c.unwell(x, now)
	default:
		if x.is(ready) {
			x.open = false
			c.set(x, &condition{readiness: trying})
			c.await(x, now)
		}
	}
	c.follow(now)
}

// unwell has x, which is connected and does not serve, make room after a while.
func (c *core) unwell(x *conn, now time.Time) {
	if x.roomAt.IsZero() {
		x.roomAt = now.Add(unwellFor)
		c.roomAt = earliest(c.roomAt, x.roomAt)
	}
}

// refused takes the news that there is no permit for x. What nothing wants is to make room, and what does not serve.
func (c *core) refused(x *conn, err error, now time.Time) {
	c.set(x, &condition{readiness: failing, err: err, refused: true, waits: x.is(trying) || x.current.Load().waits})
	c.fullAt = now
	c.follow(now)
}

// makeRoom has as many as wait for a permit wait behind them, of those that have been connected for a while and not served, so
// that all come to be tried. What calls name would go before the others, and keeps its own.
func (c *core) makeRoom(now time.Time) {
	c.roomAt = time.Time{}
	wait := 0
	for _, x := range c.all {
		if x.awaitsPermit() {
			wait++
		}
	}
	if wait == 0 {
		return
	}
	for _, x := range c.all {
		switch {
		case x.roomAt.IsZero():
			continue
		case now.Before(x.roomAt):
		case wait > 0 && x.wanted && !x.named:
			wait--
			c.close(x)
			c.connect(x, now)
			continue
		default: // not now: what has just made room is about to wait itself
			x.roomAt = now.Add(unwellFor)
		}
		c.roomAt = earliest(c.roomAt, x.roomAt)
	}
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
	x.retryAt, c.timed = now.Add(lasting), true
	c.set(x, &condition{readiness: failing, err: err})
	c.follow(now)
}

// granted takes the news that x was given its permit. Calls need not fail any longer, unless nothing wants x any more.
func (c *core) granted(x *conn, now time.Time) {
	if !x.isUsed() {
		x.dialing = false
		c.do(release, x)
		return
	}
	if was := x.current.Load(); was.waits {
		c.set(x, &condition{readiness: trying})
	} else {
		c.set(x, &condition{readiness: was.readiness, err: was.err})
	}
	c.dial(x, now)
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
	c.settle(now)
	c.out.publish = true
}

// followChild notes for how long the child connects.
func (c *core) followChild(now time.Time) {
	switch {
	case c.plan == nil || c.plan.child == nil || c.plan.child.State() != connectivity.Connecting:
		c.childAt, c.childLate = time.Time{}, false
	case c.childAt.IsZero():
		c.childAt = now.Add(knownWithin)
	case !c.childLate && !now.Before(c.childAt):
		c.childLate, c.out.publish = true, true
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
	if !c.roomAt.IsZero() && !now.Before(c.roomAt) {
		c.makeRoom(now)
	}
	c.followChild(now)
	c.closeUnwanted(now)
	c.settle(now)
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
		if x.state == connectivity.Ready {
			c.unwell(x, now)
		}
	}
}

// closeAll ends everything.
func (c *core) closeAll() {
	for _, x := range c.all {
		c.do(shutDown, x)
	}
	c.retire(c.old)
	c.retire(c.plan)
	c.conns, c.all, c.old, c.plan = nil, nil, nil, nil
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

// flush returns the effects since it was last called. Room is made once for all that were refused since: there may be
// thousands, and it takes a look at each connection.
func (c *core) flush() effects {
	if now := c.fullAt; !now.IsZero() {
		c.fullAt = time.Time{}
		for _, o := range c.all {
			if o.makesRoom() {
				o.closeAt = now
			}
		}
		c.closeUnwanted(now)
		c.makeRoom(now)
	}
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
	sooner(c.roomAt)
	if !c.childLate {
		sooner(c.childAt)
	}
	if c.old != nil && c.plan.child == nil {
		sooner(c.deadline)
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
	case c.plan.instead != nil:
		return c.plan.instead.state
	case c.old != nil:
		return connectivity.Ready
	case c.plan.child != nil:
		return c.plan.child.State()
	case c.counts[ready] > 0:
		return connectivity.Ready
	case c.counts[trying] > 0:
		return connectivity.Connecting
	}
	return connectivity.TransientFailure
}

// serves reports whether the plan serves.
func (c *core) serves() bool {
	return c.old == nil && c.plan.instead == nil && c.state() == connectivity.Ready
}
