package balancer

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/etcdrpc/protoc-gen-go-etcd/internal/modelcheck"
	"github.com/etcdrpc/protoc-gen-go-etcd/internal/planner"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/calloptions"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/model"
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime/internal/picking"
)

// walked is a core in a walk through orders of events. It also records the
// core's effects.
type walked struct {
	*walks
	core core
	now  time.Time

	// each endpoint's variant, 1 or 2; 0 if it has no entry; 3 if variant 1 is
	// in the fallback
	fleet [3]int

	config int
	health map[*conn]bool // true if the health of the connection is watched
	wake   time.Time
	asks   bool // a call has opened a view
	broken modelcheck.Verdict
}

// walks holds the configs and events that random walks choose from.
type walks struct {
	configs []*config
	events  []string
}

// variants has, for each endpoint, the two entries that the endpoint may have.
var variants = func() (all [3][]*model.Backend) {
	for i, name := range []string{"a", "b", "c"} {
		for _, says := range []string{"v1 x s.A/M", "v2 y s.A/M,New"} {
			all[i] = append(all[i], endpointsOf(name+" "+says)...)
		}
	}

	return all
}()

const (
	byVersion = `"split":[{"match":{"version":"v1"},"weight":90},{"match":{"version":"v2"},"weight":10}]`
	strictRed = `"route":[{"lane":"red","match":{"version":"v2"},"strict":true}]`
	looseRed  = `"route":[{"lane":"red","match":{"version":"v2"}}]`
	firstOne  = `"childPolicy":[{"pick_first":{}}]`
)

// walkedCalls are the kinds of calls that are checked.
var walkedCalls = []struct{ lane, method string }{{"", "M"}, {"", "New"}, {"red", "M"}}

func newWalks(t *testing.T, texts ...string) *walks {
	w := &walks{}
	for _, text := range texts {
		w.configs = append(w.configs, mustConfig(t, "{"+text+"}"))
	}

	for i := range variants {
		for v := range 3 {
			w.events = append(w.events, fmt.Sprintf("fleet %d %d", i, v))
		}
	}

	w.events = append(w.events, "fleet 2 3")
	for c := range texts {
		w.events = append(w.events, fmt.Sprintf("config %d", c))
	}

	for _, addr := range []string{"a:1", "b:1", "c:1"} {
		for _, what := range []string{"ready", "fails", "ends", "idle", "well", "unwell"} {
			w.events = append(w.events, what+" "+addr)
		}
	}

	w.events = append(w.events, "named c:1", "forgotten c:1", "time 1s", "time 5s")

	return w
}

func (ws *walks) start() *walked {
	noStats := func(string) *picking.Stats { return new(picking.Stats) }
	c, _ := defaultConfig()
	w := &walked{
		walks:  ws,
		core:   newCore(noStats, targetsOnly(inputOf(c, planner.Client{}, nil))),
		now:    time.Now(),
		fleet:  [3]int{1, 1, 0},
		health: make(map[*conn]bool),
	}

	w.update()

	for _, addr := range []string{"a:1", "b:1"} {
		w.do("ready " + addr)
		w.do("well " + addr)
	}

	return w
}

func (w *walked) happen(event int) bool {
	before := w.picks()
	had := w.core.plan.conns
	update := strings.HasPrefix(w.events[event], "fleet") ||
		strings.HasPrefix(w.events[event], "config")

	if !w.do(w.events[event]) {
		return false
	}

	for _, conn := range had {
		if conn.state == connectivity.Ready && !slices.Contains(w.core.plan.conns, conn) {
			w.broken.Record("an endpoint that has left stays a last resort while it is connected: %s is not in the plan", conn.addr)
		}
	}

	for i, c := range before {
		after := w.picks()[i]
		strict := w.core.plan.Lane(walkedCalls[i].lane) == nil ||
			w.core.plan.Lane(walkedCalls[i].lane).Strict

		// v1 lacks the method
		if c.conn == nil ||
			walkedCalls[i].method == "New" && c.conn.endpoint.Endpoint.Version == "v1" {
			continue
		}

		p := w.core.plan

		// A call may wait: the first call of a lane, and a call to an endpoint
		// of a ring, start a connection, and calls wait for the client's zone.
		lazy := walkedCalls[i].lane != "" && p.picksSome() || p.traits.Rings || p.base.awaitsZone()
		at := slices.Index(p.conns, c.conn)
		moved := at >= 0 && !w.mayServe(c.conn, i) // the endpoint moved into a lane, or out of one

		v := p.views[p.Lane(walkedCalls[i].lane)]
		// a call of a lane waits while the lane's endpoints connect
		if v != nil && v != p.base && v.anyBefore(planner.Away, trying, joining, ready) {
			continue
		}

		if update && after.conn == nil && c.conn.is(ready) && !strict && !lazy && !moved {
			w.broken.Record(
				"a change of plan loses no call: %v was served by %s, and now gets the error %v",
				walkedCalls[i], c.conn.addr, after.err)
		}
	}

	return true
}

// picked is the result of a pick.
type picked struct {
	conn *conn
	err  error
}

func (w *walked) picker() *picker {
	return &picker{targets: &targets{core: &w.core}, epoch: w.core.epoch.Load(), plan: w.core.plan}
}

// picks makes a call of each kind.
func (w *walked) picks() (all []picked) {
	p := w.picker()
	for i := range walkedCalls {
		info, _ := infoOf(i)

		for _, v := range p.plan.openViews() { // makes the pick refresh the view
			v.last.Store(nil)
		}

		result, err := p.Pick(info)
		x := picked{err: err}
		for _, c := range w.conns() {
			if err == nil && c.subConn == result.SubConn {
				x.conn = c
			}
		}

		all = append(all, x)
	}

	return all
}

// mayServe reports whether a connection is ready, and the plan lets it serve a
// call, but not as a last resort.
func (w *walked) mayServe(conn *conn, call int) bool {
	p := w.core.plan

	if conn.current.Load().readiness != ready {
		return false
	}

	info, wish := infoOf(call)
	v, err := p.viewOf(&info, wish)
	if err != nil {
		return false
	}

	for ; v != nil; v = v.base {
		v.open()

		lacking := v.lacking(info.FullMethodName)
		if slices.Contains(lacking, conn.endpoint.Methods) {
			return false
		}

		if v.calls(conn) {
			return conn.endpoint.Endpoint.Zone == "x" || !v.awaitsZone()
		}

		if !v.makeSnapshot(1, lacking).toBase {
			return false
		}
	}

	return false
}

// awaitsZone reports whether calls may wait for an endpoint of the client's
// zone while other zones serve.
func (v *view) awaitsZone() bool {
	return v.plan.HasZones() && v.anyBefore(planner.OtherZones, trying)
}

// calls reports whether a live tier of a view uses a connection.
func (v *view) calls(conn *conn) bool {
	for _, tiers := range v.groups {
		for _, t := range tiers {
			uses := func(m int32) bool { return v.plan.conns[m] == conn }
			if t.Class.IsLive() && slices.ContainsFunc(t.used.Load().Members, uses) {
				return true
			}
		}
	}

	return false
}

// infoOf returns the arguments of a pick for a kind of call.
func infoOf(call int) (balancer.PickInfo, *calloptions.Options) {
	c := walkedCalls[call]
	ctx := keyed("somebody")
	if c.lane != "" {
		ctx = calloptions.WithLane(ctx, c.lane)
	}

	return balancer.PickInfo{Ctx: ctx, FullMethodName: "/s.A/" + c.method}, calloptions.Of(ctx, "")
}

var walkedClient = planner.Client{Zone: "x", Seed: seedOfTests}

func (w *walked) update() {
	in := inputOf(w.configs[w.config], walkedClient, nil)
	in.state.Away = &model.State{KeyState: model.KeyState{Known: true}}
	for i, v := range w.fleet {
		switch v {
		case 1, 2:
			in.Endpoints = append(in.Endpoints, variants[i][v-1])
		case 3:
			in.Away = append(in.Away, variants[i][0])
		}
	}

	in.Departed = w.core.departures(in)
	next := makePlan(in)
	next.demanded = func() { w.asks = true }
	w.core.update(next, w.now)
	w.carryOut()
}

// do handles an event. It reports whether the event was possible.
func (w *walked) do(event string) (could bool) {
	var i, v int

	verb, name, _ := strings.Cut(event, " ")
	conn := w.core.conns[name]

	switch verb {
	case "fleet":
		_, _ = fmt.Sscan(name, &i, &v)

		could = w.fleet[i] != v
		if could {
			w.fleet[i] = v
			w.update()
		}

		return could

	case "config":
		_, _ = fmt.Sscan(name, &i)

		could = w.config != i
		if could {
			w.config = i
			w.update()
		}

		return could

	case "time":
		d, _ := time.ParseDuration(name)
		w.now = w.now.Add(d)
		if !w.wake.IsZero() && !w.now.Before(w.wake) {
			w.wake = time.Time{} // the timer has fired
			w.core.reselect(w.now)
		}

	case "named":
		could = w.fleet[2]%3 > 0 && (conn == nil || !conn.named)
		if !could {
			return false
		}

		w.core.pinTarget(variants[2][w.fleet[2]-1], w.now)

	case "forgotten":
		could = conn != nil && conn.named
		if !could {
			return false
		}

		w.core.unpin(conn, false)

	default:
		before := w.picker()

		if conn == nil || conn.subConn == nil || !w.tell(conn, verb) {
			return false
		}

		// a call of each kind with the picker that is about to be replaced
		for i := range walkedCalls {
			info, _ := infoOf(i)
			result, err := before.Pick(info)
			if err == nil && result.SubConn == nil || err != nil &&
				!errors.Is(err, balancer.ErrNoSubConnAvailable) &&
				before.epoch < w.core.epoch.Load() {
				w.broken.Record("a call that the next picker may serve waits for that picker: %v gets the error %v",
					walkedCalls[i], err)
			}
		}
	}

	w.carryOut()

	return true
}

// tell reports a state of a connection to the core.
func (w *walked) tell(conn *conn, what string) bool {
	connecting := conn.state == connectivity.Connecting
	epoch := w.core.epoch.Load()
	again := conn.is(failing) && w.core.counts[ready] > 0

	switch {
	case what == "ready" && connecting:
		w.core.changed(conn, balancer.SubConnState{ConnectivityState: connectivity.Ready}, w.now)

		if conn.is(ready) {
			w.broken.Record("%s gets calls before its health is known", conn.addr)
		}

	case what == "fails" && connecting:
		w.core.changed(conn, balancer.SubConnState{
			ConnectivityState: connectivity.TransientFailure,
			ConnectionError:   errors.New("refused"),
		}, w.now)

		if again && w.core.epoch.Load() > epoch {
			w.broken.Record(
				"while others serve, a connection that fails again makes no new picker due: %s does",
				conn.addr)
		}

	case what == "ends" && conn.state == connectivity.Ready, what == "idle" &&
		conn.state == connectivity.TransientFailure:
		delete(w.health, conn)
		conn.subConn.(*walkedSubConn).busy = false
		w.core.changed(conn, balancer.SubConnState{ConnectivityState: connectivity.Idle}, w.now)

	case what == "well" && w.health[conn] && !conn.is(ready):
		w.core.health(conn, balancer.SubConnState{ConnectivityState: connectivity.Ready}, w.now)
	case what == "unwell" && w.health[conn] && conn.is(ready):
		w.core.health(conn, balancer.SubConnState{
			ConnectivityState: connectivity.TransientFailure,
			ConnectionError:   errors.New("unwell"),
		}, w.now)

	default:
		return false
	}

	return true
}

// walkedSubConn stands for a SubConn of gRPC.
type walkedSubConn struct {
	balancer.SubConn
	busy bool // Connect was called, and the state has not been idle since
}

// carryOut applies the core's effects.
func (w *walked) carryOut() {
	for {
		w.core.reselect(w.now)

		out := w.core.flush()
		for _, s := range out.steps {
			conn := s.conn

			switch s.action {
			case dial:
				if conn.subConn == nil {
					conn.subConn = &walkedSubConn{}
				}

				sc := conn.subConn.(*walkedSubConn)
				if sc.busy {
					w.broken.Record("%s is connected to twice", conn.addr)
				}

				sc.busy = true

			case watch:
				w.health[conn] = true
			case shutDown:
				conn.subConn = nil
				delete(w.health, conn)
			}

			if conn.state != connectivity.Ready {
				delete(w.health, conn)
			}
		}

		if wake := w.core.lookAt; !wake.IsZero() {
			w.wake = wake
		}

		if len(out.steps) > 0 {
			continue
		}

		w.picks()

		if !w.asks {
			return
		}

		w.asks = false
		w.core.demanded()
	}
}

// conns returns the connections in the order of their addresses.
func (w *walked) conns() []*conn {
	return slices.SortedFunc(maps.Values(w.core.conns), func(a, b *conn) int {
		return strings.Compare(a.addr, b.addr)
	})
}

// settle makes every connection ready.
func (w *walked) settle() string {
	for _, conn := range w.conns() {
		for _, what := range []string{"idle", "ready", "well"} {
			if w.do(what + " " + conn.addr) {
				return what + " " + conn.addr
			}
		}
	}

	timed := slices.ContainsFunc(w.conns(), func(conn *conn) bool {
		return !conn.closeAt.IsZero() || conn.state == connectivity.Idle && w.core.isSelected(conn)
	})
	if timed {
		if w.wake.IsZero() {
			return "a connection is to be closed or made, but no time is set for that"
		}

		w.do("time 5s")

		return "time passes"
	}

	if w.fleet == [3]int{} {
		return ""
	}

	if w.asks {
		w.carryOut()
		return "a call has reached another endpoint"
	}

	for i, c := range w.picks() {
		v2 := slices.Contains(w.fleet[:], 2)
		if c.err != nil && (walkedCalls[i].lane == "" || !w.core.plan.HasLanes() || v2) {
			return fmt.Sprintf("while all connections are ready, %v gets the error %v",
				walkedCalls[i], c.err)
		}
	}

	return ""
}

var coreRules = []modelcheck.Rule[walked]{
	{Name: "always", Broken: func(w *walked) string { return string(w.broken) }},
	{
		Name: "P1, P2: a call goes to an endpoint that may be called and serves the method",
		Broken: func(w *walked) string {
			for i, c := range w.picks() {
				if c.conn == nil {
					continue
				}

				at := slices.Index(w.core.plan.conns, c.conn)
				if at < 0 {
					return fmt.Sprintf("%v goes to %s, which may not be called", walkedCalls[i],
						c.conn.addr)
				}

				served := slices.ContainsFunc(w.core.plan.Base.Members, func(m int32) bool {
					return int(m) < w.core.plan.Live && w.core.plan.All[m].Endpoint.Version == "v2"
				})

				says := w.core.plan.All[at].Endpoint
				if walkedCalls[i].method == "New" && served && says.Version == "v1" {
					return fmt.Sprintf("%v goes to %s, which does not serve the method",
						walkedCalls[i], c.conn.addr)
				}
			}

			return ""
		}},
	{
		Name: "P20: a call is served where an endpoint that it may go to is ready",
		Broken: func(w *walked) string {
			for i, c := range w.picks() {
				for _, conn := range w.core.plan.conns {
					// under ring_hash, calls wait for the instance of their key
					if c.err != nil && w.mayServe(conn, i) && !w.core.plan.traits.Rings {
						return fmt.Sprintf("%v gets the error %v, though %s is ready",
							walkedCalls[i], c.err, conn.addr)
					}
				}
			}

			return ""
		}},
	{
		Name: "the last resort takes calls only while nothing else can",
		Broken: func(w *walked) string {
			for i, c := range w.picks() {
				if at := slices.Index(w.core.plan.conns, c.conn); at < w.core.plan.Live {
					continue
				}

				for _, conn := range w.core.plan.conns[:w.core.plan.Live] {
					if w.mayServe(conn, i) {
						return fmt.Sprintf("%v goes to %s, though %s is ready", walkedCalls[i],
							c.conn.addr, conn.addr)
					}
				}
			}

			return ""
		}},
	{Name: "the core wakes when a connection becomes late", Broken: func(w *walked) string {
		late := slices.ContainsFunc(w.conns(), func(conn *conn) bool {
			return conn.isAwaited() &&
				(w.wake.IsZero() || w.wake.After(conn.triedAt.Add(readyTimeout)))
		})
		if late {
			return "a connection may become late, but no wake-up is set for that time"
		}

		return ""
	}},
	{
		Name: "a connection that is wanted is made, and one that is not wanted is closed",
		Broken: func(w *walked) string {
			kinds := [numReadiness]int{}
			for _, conn := range w.conns() {
				if w.core.isSelected(conn) {
					kinds[conn.current.Load().readiness]++
				}

				if (w.core.isSelected(conn) && conn.inPlan || conn.named) &&
					conn.state == connectivity.Idle {
					return conn.addr + " is wanted, but not connected"
				}

				if !w.core.isUsed(conn) && conn.subConn != nil && conn.closeAt.IsZero() {
					return conn.addr + " is not wanted, but is open, with no time to close it"
				}
			}

			if kinds != w.core.counts {
				return fmt.Sprintf("the core counts %v selected connections by readiness, want %v",
					w.core.counts, kinds)
			}

			return ""
		}},
}

func TestWalkCore(t *testing.T) {
	for _, texts := range [][]string{
		{``, byVersion, `"preferZone":true`, strictRed},
		{``, `"drain":["a"]`, looseRed, `"preferZone":true,"zoneMinPercent":100`},
		{``, firstOne, firstOne + `,"preferZone":true`, firstOne + `,"subset":1`,
			firstOne + `,` + byVersion},
		{``, ring, ring + `,"subset":1,` + byVersion, ring + `,"preferZone":true,"drain":["a"]`,
			ring + `,` + looseRed},
		{``, `"subset":1,"preferZone":true`, `"subset":1,"drain":["a"]`, `"subset":1,` + looseRed},
	} {
		ws := newWalks(t, texts...)
		world := modelcheck.World[walked]{
			Start: ws.start, Rules: coreRules, Settle: (*walked).settle, Within: 60,
		}
		for i, event := range ws.events {
			world.Events = append(world.Events, modelcheck.Event[walked]{
				Name: event,
				Do:   func(w *walked) bool { return w.happen(i) },
			})
		}

		t.Run(strings.Join(texts, " or "), func(t *testing.T) {
			modelcheck.Walk(t, 800, 40, world)
		})
	}
}
