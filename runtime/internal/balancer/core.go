package balancer

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

const (
	// linger is how long an unused connection is kept, because the next plan
	// may use it. If all servers of the next plan fail, calls use the
	// connection as a last resort.
	linger = 5 * time.Second

	// attemptDelay is how long one attempt to connect may take before another
	// endpoint is tried in parallel, as in gRPC's pick_first (A61).
	attemptDelay = 250 * time.Millisecond

	// readyTimeout bounds how long calls wait for an endpoint that is
	// connecting or has not reported its health. After that, the endpoint is
	// late. gRPC gives up on a connection only after 20 s, and a health service
	// may never answer.
	readyTimeout = time.Second

	// minSilent is the minimum of the limit on late endpoints that are tried
	// concurrently in a tier: see core.reachable.
	minSilent = 32
)

// errUnhealthy is the error of calls to an unhealthy endpoint for which gRPC
// gives no reason, such as an ejected endpoint.
var errUnhealthy = errors.New(
	"etcd: the endpoint is not healthy, or outlier detection has ejected it")

// core decides which connections exist. Its methods handle events. They record
// effects and do no I/O.
//
// A new plan is in force at once. It includes connected endpoints of the
// previous plan as a last resort: see departures.
type core struct {
	statsOf func(addr string) *picking.Stats // returns the statistics of an address
	conns   map[string]*conn                 // by address
	plan    *connPlan                        // nil once the policy is closed

	selection uint64 // the number of the last selection of connections

	// the connections of the last selection, without those with conn.always set
	chosen []*conn

	counts [numReadiness]int // how many selected connections have each readiness

	// connections that the next selection may connect, close or count as late
	loose []*conn

	failsOver bool      // connections to the fallback are selected
	stale     bool      // another selection is due now
	lookAt    time.Time // when the next selection is due; zero means never

	epoch epoch
	out   effects
}

// effects are commands for the shell. It applies the steps in order, and then
// publishes a picker if publish is set.
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
	watch                  // watch the connection's health
	shutDown               // close
)

func newCore(statsOf func(addr string) *picking.Stats, first *connPlan) core {
	// selection begins at 1, so that a new conn, whose selected is 0, is not
	// selected
	return core{
		statsOf:   statsOf,
		conns:     make(map[string]*conn),
		plan:      first,
		selection: 1,
	}
}

// connTo returns the connection to the address of an endpoint.
func (c *core) connTo(ep *model.Backend) *conn {
	addr := ep.Endpoint.Addr
	conn := c.conns[addr]
	if conn == nil {
		conn = newConn(addr, c.statsOf(addr))
		c.conns[addr] = conn
	}

	return conn
}

// update puts a new plan in force. It looks only at the endpoints outside the
// common prefix and suffix of both plans.
func (c *core) update(next *connPlan, now time.Time) {
	previous := c.plan
	prefix := 0
	suffix := 0
	serving := c.counts[ready] > 0

	// If picksSome changes, conn.always changes for each live endpoint. Then no
	// endpoint is skipped.
	if previous.picksSome() == next.picksSome() {
		prefix, suffix = commonLengths(previous.All[:previous.Live], next.All[:next.Live])
	}

	next.conns = c.renewConns(next, prefix, suffix, now)
	next.differ = next.methodsDiffer(previous, prefix, suffix)

	for i := range previous.outside(prefix, suffix) {
		c.setRole(previous.conns[i], false, false, false)
	}

	for i := range next.outside(prefix, suffix) {
		departed := next.ClassOf(i) == planner.Departed
		c.setRole(next.conns[i], !departed, departed, i < next.Live && !next.picksSome())
	}

	c.plan = next
	next.adopt(previous)
	c.selectConns(now, serving)
	c.publish()
}

// renewConns gives the connections outside the prefix and the suffix of the
// next plan their new endpoints. It makes missing connections, and returns the
// connections to all endpoints of the plan.
func (c *core) renewConns(next *connPlan, prefix, suffix int, now time.Time) []*conn {
	previous := c.plan
	var changed []*conn
	for i := range next.outside(prefix, suffix) {
		conn := c.connTo(next.All[i])
		c.renew(conn, next.All[i], now)

		if next.in.state.InState && !conn.inPlan && next.ClassOf(i) != planner.Departed {
			// outlier detection has forgotten the SubConn of an endpoint that
			// had left
			c.close(conn)
		}

		changed = append(changed, conn)
	}

	end := previous.conns[previous.Live-suffix : previous.Live]
	middle := next.Live - suffix - prefix

	return slices.Concat(previous.conns[:prefix], changed[:middle], end, changed[middle:])
}

// setRole sets whether the endpoint of conn is in the plan, whether it has
// departed, and whether the plan always uses it.
func (c *core) setRole(conn *conn, inPlan, departed, always bool) {
	was := c.isSelected(conn)
	conn.inPlan = inPlan
	conn.departed = departed
	conn.always = always

	switch is := c.isSelected(conn); {
	case is && !was:
		c.counts[conn.readiness()]++
	case was && !is:
		c.counts[conn.readiness()]--
	}

	c.loosen(conn)
}

// loosen makes the next selection look at conn.
func (c *core) loosen(conn *conn) {
	if !conn.loose {
		conn.loose = true
		c.loose = append(c.loose, conn)
	}
}

// departures returns the connected endpoints of the current plan that the next
// input no longer has.
func (c *core) departures(next *input) (departed []*model.Backend) {
	previous := c.plan.in
	prefix, suffix := commonLengths(previous.Endpoints, next.Endpoints)
	known := make(map[string]bool)
	changed := next.Endpoints[prefix : len(next.Endpoints)-suffix]
	for _, b := range slices.Concat(changed, next.Away) {
		known[b.Endpoint.Addr] = true
	}

	before := slices.Concat(previous.Endpoints[prefix:len(previous.Endpoints)-suffix],
		previous.Departed)
	// A client that no longer has a fallback does not call the fallback's
	// endpoints.
	if next.state.Away != nil {
		before = append(before, previous.Away...)
	}

	for _, b := range before {
		addr := b.Endpoint.Addr
		conn := c.conns[addr]
		if conn != nil && conn.state == connectivity.Ready && !known[addr] {
			known[addr] = true
			departed = append(departed, b)
		}
	}

	return departed
}

// renew replaces the endpoint of conn with ep, the newest one at its address.
func (c *core) renew(conn *conn, ep *model.Backend, now time.Time) {
	if conn.endpoint != nil && ep.Restarted(conn.endpoint) {
		c.restart(conn, now)
	}

	conn.endpoint = ep

	if conn.is(ready) {
		conn.stats.Ready(&ep.Endpoint, now)
	}
}

// restart handles a restart of the server of conn. It ends a backoff or a
// silent attempt to connect, because both concern the old server. The next
// attempt may take all of readyTimeout.
func (c *core) restart(conn *conn, now time.Time) {
	if conn.state == connectivity.TransientFailure || conn.isSilent(now) {
		c.do(shutDown, conn)
		conn.state = connectivity.Idle
		conn.triedAt = time.Time{}
		c.loosen(conn)
		c.stale = true
	}
}

// connect connects conn if it is idle, and either the plan has it or a call has
// named it. If joins is set, other endpoints already serve, so calls do not
// wait for conn.
func (c *core) connect(conn *conn, joins bool, now time.Time) {
	if conn.state != connectivity.Idle || !conn.named && !conn.inPlan {
		return
	}

	// current points to untried until an attempt changes the condition
	if joins && conn.current.Load() == untried {
		c.set(conn, &condition{readiness: joining})
	}

	conn.state = connectivity.Connecting
	c.await(conn, now)
	c.do(dial, conn)
}

// await starts the timeout after which conn is late. The timeout already runs
// if the present attempt has an earlier dial.
func (c *core) await(conn *conn, now time.Time) {
	conn.triedAt = cmp.Or(conn.triedAt, now)
	c.loosen(conn)
	c.lookAt = earliest(c.lookAt, conn.triedAt.Add(readyTimeout))
}

// close closes conn and resets it.
func (c *core) close(conn *conn) {
	c.do(shutDown, conn)
	conn.state = connectivity.Idle
	conn.closeAt = time.Time{}
	conn.triedAt = time.Time{}
	c.set(conn, untried)
}

// pinTarget connects to ep, the endpoint of an instance that a call has named,
// and returns the connection.
func (c *core) pinTarget(ep *model.Backend, now time.Time) *conn {
	conn := c.connTo(ep)
	c.pin(conn, ep, now)
	c.publish()
	c.connect(conn, false, now)

	return conn
}

// pin keeps conn open while calls may name its instance, whose endpoint is ep.
func (c *core) pin(conn *conn, ep *model.Backend, now time.Time) {
	conn.named = true
	conn.closeAt = time.Time{}
	c.renew(conn, ep, now)
}

// unpin handles the removal of the instance for which conn is pinned. departed
// reports whether the instance has left, rather than moved.
func (c *core) unpin(conn *conn, departed bool) {
	conn.named = false
	conn.outlasts = departed
	c.stale = true
	c.loosen(conn)
}

// changed handles a new state of the SubConn of conn.
func (c *core) changed(conn *conn, s balancer.SubConnState, now time.Time) {
	was := conn.state
	conn.state = s.ConnectivityState

	switch s.ConnectivityState {
	case connectivity.Ready:
		c.do(watch, conn)

		// Without a health check, calls that name the instance may use conn at
		// once. Other calls wait for the report on its health.
		if c.plan.in.state.Health == "" {
			next := *conn.current.Load()
			next.subConn = conn.subConn
			c.set(conn, &next)

			if conn.named {
				c.publish()
			}
		}

	case connectivity.TransientFailure:
		c.set(conn, &condition{readiness: failing, err: s.ConnectionError})
	case connectivity.Idle:
		ended := was == connectivity.Ready && c.plan.traits.Rings
		if ended {
			// as in gRPC, the next call that reaches the endpoint connects
			conn.reached.Store(false)
		}

		// a failed connection fails calls until it is ready, as in gRPC's
		// policies
		if was != connectivity.TransientFailure {
			c.set(conn, untried)
		}

		if c.isUsed(conn) && (conn.named || !ended) {
			c.connect(conn, false, now)
		}
	}

	c.markStale()
}

// markStale makes another selection due if selections depend on the readiness
// of connections.
func (c *core) markStale() {
	c.stale = c.stale || c.plan.selectsByReadiness()
}

// demanded handles the first call that needs a view, a connection, or a method
// that some endpoints lack.
func (c *core) demanded() {
	c.stale = true
	c.publish()
}

// reselect makes a selection if one is due. One selection may follow many
// events.
func (c *core) reselect(now time.Time) {
	if c.plan != nil && (c.stale || !c.lookAt.IsZero() && !now.Before(c.lookAt)) {
		c.selectConns(now, false)
	}
}

// health handles a report on the health of conn.
func (c *core) health(conn *conn, s balancer.SubConnState, now time.Time) {
	if conn.state != connectivity.Ready {
		return
	}

	switch s.ConnectivityState {
	case connectivity.Ready:
		conn.stats.Ready(&conn.endpoint.Endpoint, now)
		c.set(conn, &condition{readiness: ready, subConn: conn.subConn})
	case connectivity.TransientFailure:
		next := &condition{
			readiness: failing,
			err:       cmp.Or(s.ConnectionError, errUnhealthy),
		}
		// Without an error, the endpoint is ejected: a failed health check has
		// an error.
		if s.ConnectionError == nil {
			next.subConn = conn.current.Load().subConn
		}

		c.set(conn, next)

	default:
		c.set(conn, untried)
		c.await(conn, now)
	}

	c.markStale()
}

// watchAgain restarts the health watches, because gRPC reads the service config
// only when a watch begins.
func (c *core) watchAgain() {
	for _, conn := range c.conns {
		if conn.state == connectivity.Ready {
			c.do(watch, conn)
		}
	}
}

// closeAll closes all connections.
func (c *core) closeAll() {
	for _, conn := range c.conns {
		c.do(shutDown, conn)
	}

	c.conns = nil
	c.plan = nil
	c.stale = false
}

// publish makes a new picker due. When gRPC gets the picker, it picks again for
// waiting calls.
func (c *core) publish() {
	c.epoch.Add(1)
	c.out.publish = true
}

func (c *core) do(a action, conn *conn) {
	c.out.steps = append(c.out.steps, step{a, conn})
}

// set sets the condition of conn. No new picker is due if a failing connection
// fails again while others are ready.
func (c *core) set(conn *conn, next *condition) {
	was := conn.current.Load()
	is := next.readiness

	if c.isSelected(conn) {
		c.counts[was.readiness]--
		c.counts[is]++
	}

	// the SubConn matters, too: snapshots may count an ejected connection as
	// ready
	if was.readiness != is || was.subConn != next.subConn || c.counts[ready] == 0 {
		c.publish()
	}

	if is == ready || is == failing {
		conn.triedAt = time.Time{}
	}

	conn.current.Store(next)
}

// flush returns the effects since the last flush.
func (c *core) flush() effects {
	out := c.out
	c.out = effects{}

	return out
}

// earliest returns the earlier of two times. The zero time means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}

	return a
}

// state returns the connectivity state for gRPC.
func (c *core) state() connectivity.State {
	in := c.plan.in
	isEmpty := len(c.plan.All) == 0

	switch {
	case c.counts[ready] > 0, in.state.Client.TargetsOnly:
		return connectivity.Ready
	case c.counts[trying]+c.counts[joining]+c.counts[late] > 0 || isEmpty && in.state.Pending():
		return connectivity.Connecting
	case c.plan.traits.Rings && c.counts[failing] == 0 && !isEmpty:
		return connectivity.Idle // no call has reached an endpoint
	}

	return connectivity.TransientFailure
}
