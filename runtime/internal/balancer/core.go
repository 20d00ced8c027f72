package balancer

import (
	"cmp"
	"errors"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/attr"
)

const (
	// linger is how long a connection is kept that nothing wants, while its address is known: another plan may be about
	// to want it.
	linger = 5 * time.Second
	// lasting is how long a connection must last for the next to be made at once. gRPC spaces attempts that fail; a
	// server that takes connections and ends them would be connected to without end.
	lasting = time.Second
	// slowest bounds how long such a server is left alone, as gRPC does with one that refuses.
	slowest = 2 * time.Minute
)

// errEnded is the error of calls while connections do not last.
var errEnded = errors.New("etcd: the server has ended the connection, and others before")

// errUnwell is the error of calls where gRPC does not say why an endpoint is not well, such as that it is ejected.
var errUnwell = errors.New("etcd: the endpoint is not healthy, or outlier detection has ejected it")

// core decides which connections there are, and which plan picks go by. Its methods are the events; they note the effects.
// It does nothing itself.
//
// A new plan takes over each call's view as soon as that can serve, or nothing in it is left to be tried. Until then, and
// for settleWithin at most, the old plan serves it, without what may not be called any more.
type core struct {
	conns map[string]*conn
	all   []*conn
	kinds [3]int // of the connections that are wanted, by kind

	plan     *plan
	number   uint64    // of plan
	old      *plan     // serves what plan cannot yet; nil: there is none
	gone     []bool    // the endpoints of old that may not be called any more
	deadline time.Time // when old ends
	timed    bool      // time alone may change something

	out effects
}

// effects are what the shell is to do, in the order of steps, and then publish a picker.
type effects struct {
	steps   []step
	publish bool
	ended   []*plan   // that no picker goes by any more
	wake    time.Time // when to call expire; zero: never
}

// step is something that the shell has gRPC do with a connection.
type step struct {
	do   verb
	conn *conn
}

type verb int

const (
	dial  verb = iota // connect, once there is a place in the budget
	watch             // ask for its health
	end               // close it
	give              // give its place in the budget back
)

func newCore() core { return core{conns: make(map[string]*conn)} }

// at returns the connection to the address of an endpoint. station, if it is not nil, returns what is remembered of it.
func (c *core) at(ep *resolver.Endpoint, remembered func(addr string) *station) *conn {
	addr := address(ep)
	x := c.conns[addr]
	if x == nil {
		x = newConn(addr, remembered(addr))
		c.conns[addr] = x
		c.all = append(c.all, x)
	}
	return x
}

// update takes a new plan.
func (c *core) update(next *plan, remembered func(addr string) *station, now time.Time) {
	before := c.plan
	c.number++
	next.conns = make([]*conn, len(next.left))
	if before != nil {
		same, behind := alike(before.left, next.left)
		copy(next.conns, before.conns[:same])
		copy(next.conns[len(next.left)-behind:], before.conns[len(before.left)-behind:])
	}
	for i := range next.left {
		x := next.conns[i]
		if x == nil {
			x = c.at(&next.left[i], remembered)
			next.conns[i] = x
			x.endpoint = next.left[i]
			if x.kind == ready {
				x.see(attr.Endpoint(x.endpoint), now)
			}
		}
		x.left = c.number
	}
	if c.old == nil || before.isSettled() {
		c.end(c.old)
		c.old, c.deadline = before, now.Add(settleWithin)
	} else {
		c.end(before)
	}
	c.plan = next
	next.adopt(before)
	c.want(now)
	c.dropUnknown(now)
	c.closeLeft(now)
	c.narrow()
	c.settle(now)
	c.out.publish = true
}

// end notes that no picker goes by a plan any more.
func (c *core) end(p *plan) {
	if p != nil {
		c.out.ended = append(c.out.ended, p)
	}
}

// adopt makes the view of calls without a wish, and those that calls have asked the plan before for, which may be nil.
func (p *plan) adopt(before *plan) {
	if p.instead != nil || p.below != nil {
		return
	}
	p.find(p.base, "")
	if before != nil {
		for _, v := range before.called() {
			if l := p.laneLike(v.lane); l != nil {
				p.find(l, v.method)
			}
		}
	}
}

// want marks what the plan wants, and connects to it.
func (c *core) want(now time.Time) {
	c.kinds = [3]int{}
	for _, x := range c.all {
		x.wanted = false
	}
	p := c.plan
	switch {
	case p.instead != nil || p.below != nil:
	case p.traits.single:
		c.wantFirst()
	case !p.chooses():
		for _, x := range p.conns {
			c.wants(x)
		}
	default:
		for _, v := range p.called() {
			for _, g := range v.groups {
				for _, t := range g.tiers {
					for _, m := range t.members {
						c.wants(p.conns[m])
					}
				}
			}
		}
	}
	for _, x := range c.all {
		if x.wanted || x.named {
			x.spare = time.Time{}
			c.connect(x, now)
		} else if x.spare.IsZero() && !x.new() {
			x.spare, c.timed = now.Add(linger), true
		}
	}
}

// new reports whether nothing was done about x yet.
func (x *conn) new() bool { return x.raw == connectivity.Idle && !x.dialing && x.now.Load() == untried }

func (c *core) wants(x *conn) {
	if !x.wanted {
		x.wanted = true
		c.kinds[x.kind]++
	}
}

// wantFirst wants of each group the first that is ready; if there is none, the first that is not tried yet; if there is none
// either, all.
func (c *core) wantFirst() {
	for _, v := range c.plan.called() {
		for _, g := range v.groups {
			if x := cmp.Or(c.first(&g, ready), c.first(&g, trying)); x != nil {
				c.wants(x)
				continue
			}
			for _, t := range g.tiers {
				for _, m := range t.members {
					c.wants(c.plan.conns[m])
				}
			}
		}
	}
}

// first returns the first connection of a group that is of a kind, nil if there is none.
func (c *core) first(g *group, is kind) *conn {
	for _, t := range g.tiers {
		for _, m := range t.members {
			if x := c.plan.conns[m]; x.kind == is {
				return x
			}
		}
	}
	return nil
}

// connect connects to x unless it is connected, or must wait.
func (c *core) connect(x *conn, now time.Time) {
	if x.raw == connectivity.Idle && !x.dialing && !now.Before(x.notYet) {
		x.dialing = true
		c.do(dial, x)
	}
}

// dropUnknown has what nothing wants closed now where its address is not known any more, or nothing was done about it yet.
func (c *core) dropUnknown(now time.Time) {
	var known map[string]bool
	for _, x := range c.all {
		if x.left == c.number || x.wanted || x.named {
			continue
		}
		if known == nil {
			known = make(map[string]bool, len(c.plan.in.endpoints))
			for i := range c.plan.in.endpoints {
				known[address(&c.plan.in.endpoints[i])] = true
			}
		}
		if !known[x.addr] || x.new() {
			x.spare = now
		}
	}
}

// closeLeft closes what nothing has wanted for a while, and forgets what the plan does not have.
func (c *core) closeLeft(now time.Time) {
	kept := c.all[:0]
	for _, x := range c.all {
		if !x.spare.IsZero() && !now.Before(x.spare) {
			if c.close(x); x.left != c.number {
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
	c.do(end, x)
	x.raw, x.dialing, x.healthy, x.brief = connectivity.Idle, false, false, 0
	x.notYet, x.spare = time.Time{}, time.Time{}
	c.set(x, *untried)
	x.now.Store(untried)
}

// narrow finds what of the old plan may not be called any more, or says something else of itself than when the old plan was
// made.
func (c *core) narrow() {
	c.gone = nil
	if c.old == nil {
		return
	}
	c.gone = make([]bool, len(c.old.left))
	for i, x := range c.old.conns {
		c.gone[i] = x.left != c.number || !routedAlike(c.old.left[i], x.endpoint)
	}
}

// settle ends the old plan if the new one has nothing left to be tried, or its time is up.
func (c *core) settle(now time.Time) {
	if c.old == nil {
		return
	}
	tried := c.kinds[trying] == 0
	if c.plan.below != nil {
		tried = c.plan.below.state().ConnectivityState != connectivity.Connecting
	}
	late := !now.Before(c.deadline) && c.plan.below == nil // of a policy below it is not known when it will serve
	if tried || late || !c.canServe(c.old) {
		c.end(c.old)
		c.old, c.gone = nil, nil
		c.out.publish = true
	}
}

// canServe reports whether a plan, the old one, can still serve.
func (c *core) canServe(p *plan) bool {
	switch {
	case p.instead != nil:
		return false
	case p.below != nil:
		return p.below.state().ConnectivityState == connectivity.Ready
	}
	for i, x := range p.conns {
		if x.kind == ready && !c.gone[i] {
			return true
		}
	}
	return false
}

// name takes the news that a call has named the instance at an endpoint, and returns its connection.
func (c *core) name(ep *resolver.Endpoint, remembered func(addr string) *station, now time.Time) *conn {
	x := c.at(ep, remembered)
	x.named, x.spare = true, time.Time{}
	if len(x.endpoint.Addresses) == 0 {
		x.endpoint = *ep
	}
	if x.dialing && x.raw == connectivity.Idle { // it may wait for a place, and goes first from now on
		c.do(dial, x)
	}
	c.connect(x, now)
	return x
}

// keep takes the news that calls can still name the instance of x.
func (c *core) keep(x *conn) { x.named, x.spare = true, time.Time{} }

// forget takes the news that calls cannot name the instance of x any more.
func (c *core) forget(x *conn, now time.Time) {
	x.named = false
	if !x.wanted {
		x.spare, c.timed = now.Add(linger), true
	}
}

// changed takes a state of the SubConn of x.
func (c *core) changed(x *conn, s balancer.SubConnState, now time.Time) {
	was := x.raw
	x.raw, x.dialing = s.ConnectivityState, false
	switch s.ConnectivityState {
	case connectivity.Connecting:
	case connectivity.Ready:
		x.since, x.healthy = now, false
		c.do(watch, x)
	case connectivity.TransientFailure:
		x.healthy = false
		c.do(give, x)
		c.set(x, condition{kind: failing, err: s.ConnectionError})
	case connectivity.Idle:
		c.ended(x, was, now)
	case connectivity.Shutdown:
		return // by ourselves
	}
	if c.plan.traits.single {
		c.want(now)
	}
	c.settle(now)
}

// ended takes the news that the connection of x, which was in a state, is no more.
func (c *core) ended(x *conn, was connectivity.State, now time.Time) {
	x.healthy = false
	if was != connectivity.TransientFailure { // gRPC has seen to that
		if x.brief++; was == connectivity.Ready && now.Sub(x.since) >= lasting {
			x.brief = 0
		}
		if x.brief > 1 { // once may be chance
			x.notYet, c.timed = now.Add(min(slowest, lasting<<min(x.brief-2, 10))), true
			c.set(x, condition{kind: failing, err: errEnded})
		} else {
			c.set(x, condition{kind: trying, again: true})
		}
	}
	if x.wanted || x.named {
		c.connect(x, now)
	}
	if !x.dialing {
		c.do(give, x)
	}
}

// health takes what is known of the health of x, which is connected.
func (c *core) health(x *conn, s balancer.SubConnState, now time.Time) {
	if x.raw != connectivity.Ready {
		return
	}
	switch s.ConnectivityState {
	case connectivity.Ready:
		x.healthy = true
		x.see(attr.Endpoint(x.endpoint), now)
		c.set(x, condition{kind: ready})
	case connectivity.TransientFailure:
		x.healthy = false
		c.set(x, condition{kind: failing, err: cmp.Or(s.ConnectionError, errUnwell)})
	default:
		if x.healthy = false; x.kind == ready {
			c.set(x, condition{kind: trying, again: true})
		}
	}
	if c.plan.traits.single {
		c.want(now)
	}
	c.settle(now)
}

// refused takes the news that there is no place in the budget for x. What nothing wants makes room.
func (c *core) refused(x *conn, err error, now time.Time) {
	c.set(x, condition{kind: failing, err: err, waits: x.kind == trying || x.now.Load().waits})
	for _, o := range c.all {
		if !o.spare.IsZero() {
			o.spare = now
		}
	}
	c.closeLeft(now)
	c.settle(now)
}

// recheck has the health of what is connected asked for anew: gRPC goes by the service config of the time when it is asked.
func (c *core) recheck() {
	for _, x := range c.all {
		if x.raw == connectivity.Ready {
			c.do(watch, x)
		}
	}
}

// failed takes the news that no SubConn could be made for x.
func (c *core) failed(x *conn, err error, now time.Time) {
	x.dialing = false
	x.notYet, c.timed = now.Add(lasting), true
	c.set(x, condition{kind: failing, err: err})
	c.settle(now)
}

// giveUp takes the news that x was given its place, which nothing wants any more.
func (c *core) giveUp(x *conn) {
	x.dialing = false
	c.do(give, x)
}

// asked takes the news that calls have asked the plan for another view.
func (c *core) asked(now time.Time) {
	c.want(now)
	c.out.publish = true
}

// belowChanged takes the news that the policy below has published something.
func (c *core) belowChanged(now time.Time) {
	c.settle(now)
	c.out.publish = true
}

// expire takes the time.
func (c *core) expire(now time.Time) {
	for _, x := range c.all {
		if x.wanted || x.named {
			c.connect(x, now)
		}
	}
	c.closeLeft(now)
	c.settle(now)
}

// closeAll ends everything.
func (c *core) closeAll() {
	for _, x := range c.all {
		c.do(end, x)
	}
	c.end(c.old)
	c.end(c.plan)
	c.conns, c.all, c.old, c.plan = nil, nil, nil, nil
}

func (c *core) do(v verb, x *conn) { c.out.steps = append(c.out.steps, step{v, x}) }

// set sets the condition of x.
func (c *core) set(x *conn, s condition) {
	if x.wanted {
		c.kinds[x.kind]--
		c.kinds[s.kind]++
	}
	// What fails again while others serve is no news.
	c.out.publish = c.out.publish || x.kind != s.kind || s.kind == ready || c.kinds[ready] == 0
	if x.kind = s.kind; s.kind == ready {
		s.subConn = x.subConn
	}
	x.now.Store(&s)
}

// take returns the effects since it was last called, and when to call expire.
func (c *core) take(now time.Time) effects {
	out := c.out
	c.out = effects{}
	out.wake = c.wake(now)
	return out
}

// wake returns when time alone will change something, zero for never.
func (c *core) wake(now time.Time) (at time.Time) {
	sooner := func(t time.Time) {
		if t.After(now) && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if c.timed {
		for _, x := range c.all {
			sooner(x.spare)
			if x.raw == connectivity.Idle && (x.wanted || x.named) {
				sooner(x.notYet)
			}
		}
		c.timed = !at.IsZero()
	}
	if c.old != nil && c.plan.below == nil {
		sooner(c.deadline)
	}
	return at
}

// state returns the connectivity of what picks go by.
func (c *core) state() connectivity.State {
	switch {
	case c.plan.instead != nil:
		return c.plan.instead.state
	case c.old != nil:
		return connectivity.Ready
	case c.plan.below != nil:
		return c.plan.below.state().ConnectivityState
	case c.kinds[ready] > 0:
		return connectivity.Ready
	case c.kinds[trying] > 0:
		return connectivity.Connecting
	}
	return connectivity.TransientFailure
}

// serves reports whether the plan serves.
func (c *core) serves() bool {
	return c.old == nil && c.plan.instead == nil && c.state() == connectivity.Ready
}
