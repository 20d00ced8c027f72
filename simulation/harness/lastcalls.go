package harness

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// callAtLast makes calls of all kinds that should succeed once the world has
// settled, and reports failures.
func (w *world) callAtLast() {
	for _, call := range []func(*caller){
		w.callShared,
		w.callAtOnce,
		w.callLanes,
		w.callAffine,
		w.callTargets,
		w.callLeaders,
		w.countConnections,
	} {
		for _, c := range w.callers {
			call(c)
		}
	}
}

// reconnecting exceeds gRPC's maximum backoff of a failed connection, 120 s and
// 20 % jitter.
const reconnecting = 150 * time.Second

// atLast runs look every second until it returns "" twice in a row. After the
// time reconnecting, atLast reports the result of look.
func (c *caller) atLast(promise string, look func() string) {
	right := 0
	for end := time.Now().Add(reconnecting); right < 2; time.Sleep(time.Second) {
		right++
		if wrong := look(); wrong != "" {
			right = 0

			if time.Now().After(end) {
				c.w.report(promise, "%s: %s", c.name(), wrong)
				return
			}
		}
	}
}

// callShared checks that calls are distributed as configured.
func (w *world) callShared(c *caller) {
	c.atLast(check.Shared, func() string {
		l := w.look()
		served := map[string]int{}
		n := check.Rounds * len(l.Registered())
		for range n {
			if from := c.call(context.Background(), fixtures.Who, ""); from != "" {
				served[w.addressOf(from)]++
			}
		}

		return l.WrongShares(c.spec, served, n)
	})
}

// callLanes checks that calls in lanes reach the lanes' instances, if the
// policy has routes.
func (w *world) callLanes(c *caller) {
	if p, known := w.policy(c); known && len(p.Routes) > 0 {
		for _, lane := range lanes {
			c.atLast(check.Lanes, func() string { return w.wrongLane(c, p, lane) })
		}
	}
}

// policy returns the policy in force for a caller, if it is known.
func (w *world) policy(c *caller) (p fixtures.Policy, known bool) {
	return w.entries().Policy(c.spec.Config())
}

// wrongLane describes a call of a lane that an instance of another lane
// answered, or "". If a route is strict, calls may fail, or wait for their
// deadline, while only instances of other lanes are ready.
func (w *world) wrongLane(c *caller, p fixtures.Policy, lane string) string {
	l := w.look()
	want := l.Lane(p.Routes, lane)
	waits := l.Waits(c.spec.Config())

	// calls of a strict lane may also fail over
	if len(want) == 0 && w.other != nil {
		want = w.other.look().Lane(p.Routes, lane)
	}

	for range len(l.Serving()) + 1 {
		call := c.prepare(fixtures.ShopKey, fixtures.Who, "")
		ctx := runtime.WithLane(context.Background(), lane)
		from, code := c.ask(ctx, c.clients.shop, call, nil)
		addr := w.addressOf(from)
		refused := code == codes.Unavailable || waits && code == codes.DeadlineExceeded

		switch {
		case len(want) == 0 && !refused:
			return fmt.Sprintf("a call in %s, which has no instance: %v, answered by %q, want Unavailable",
				lane, code, from)

		case len(want) > 0 && !slices.Contains(want, addr):
			return fmt.Sprintf("a call in %s: answered by %q (%v), want one of %v", lane,
				addr, code, want)
		}
	}

	return ""
}

// callsOfOne is the number of calls with one affinity that must reach one
// instance.
const callsOfOne = 3

// callAffine checks that calls of one affinity reach one instance, if the
// policy uses affinities.
func (w *world) callAffine(c *caller) {
	if p, known := w.policy(c); !known || !p.Tied {
		return
	}

	c.atLast(check.Affine, func() string {
		for _, affinity := range affinities {
			first := ""
			for n := range callsOfOne {
				ctx := runtime.WithAffinity(context.Background(), affinity)
				from := c.call(ctx, fixtures.Who, "")
				if n == 0 {
					first = from
				}

				if from != first || from == "" {
					return fmt.Sprintf("calls with the affinity %s were answered by %q and %q, want one instance",
						affinity, first, from)
				}
			}
		}

		return ""
	})
}

// wrongOne describes a call to one instance that another instance answered, or
// returns "".
func (w *world) wrongOne(c *caller, what, from, want string) string {
	if _, known := w.policy(c); from == want || !known && from == "" {
		return ""
	}

	return fmt.Sprintf("a call to %s was answered by %q, want %q", what, from, want)
}

// callTargets checks that each instance of the shop is reached by its name.
func (w *world) callTargets(c *caller) {
	for _, addr := range w.entries().Registered() {
		c.atLast(check.Reached, func() string { return w.wrongTarget(c, addr) })
	}
}

// wrongTarget describes the failure of a call to the instance at an address, or
// "".
func (w *world) wrongTarget(c *caller, addr string) string {
	all, err := c.clients.list(context.Background(), check.Deadline)
	if err != nil {
		return fmt.Sprintf("Instances.All returned %v, want the instances", err)
	}

	i := slices.IndexFunc(all, func(i runtime.Instance) bool { return i.Addr == addr })
	if i < 0 {
		return fmt.Sprintf("%s is not in the list of instances", addr)
	}

	name := all[i].Instance
	if !w.entries().Named(name, addr) {
		return fmt.Sprintf(
			"the list has the instance id %q for %s, want one from an entry", name, addr)
	}

	from := c.call(context.Background(), fixtures.Who, name)

	return w.wrongOne(c, name, w.addressOf(from), addr)
}

// callLeaders checks that calls for the leader reach the leader, if there is
// one.
func (w *world) callLeaders(c *caller) {
	leader := w.leader()
	if leader == nil {
		return
	}

	c.atLast(check.Led, func() string {
		from := c.call(context.Background(), fixtures.Lead, "")
		return w.wrongOne(c, "the leader", from, leader.id)
	})
}

// mostConnections bounds a caller's connections to a server: one for each of
// the caller's four clients, and one of a new policy that is about to replace
// another.
const mostConnections = 5

// countConnections reports a caller that has more than mostConnections
// connections to a server.
func (w *world) countConnections(c *caller) {
	for i := range w.servers {
		n := w.network.Connections(c.from, w.schedule.Host(i))
		if n > mostConnections*w.schedule.Servers[i].Servers() {
			w.report(check.LeftBehind, "%s has %d connections to %s, want fewer",
				c.name(), n, w.schedule.Name(i))
		}
	}
}

// alone stops the other calls of a caller and changes its links to all servers
// until end is called.
func (c *caller) alone(link network.Link) (end func()) {
	set := func(l network.Link) {
		c.setLinks(c.from, l)

		if c.w.other != nil {
			for i := range c.w.other.schedule.Processes() {
				c.w.network.Set(c.w.other.schedule.Host(i), c.from, l)
			}
		}
	}

	c.idle.Store(true)
	set(link)

	return func() {
		set(network.Link{})
		c.idle.Store(false)
	}
}

const (
	// underWay is the delay of the request and of the answer of a concurrent
	// call.
	underWay = 100 * time.Millisecond

	// timesAtOnce is how often callAtOnce repeats its calls, to exclude chance.
	timesAtOnce = 5
)

// callAtOnce checks that an instance accepts exactly as many concurrent calls
// as the policy allows.
func (w *world) callAtOnce(c *caller) {
	p, known := w.policy(c)
	if !known || p.Most == 0 {
		return
	}

	c.atLast(check.Bounded, func() (wrong string) {
		defer c.alone(network.Link{Delay: underWay})()

		for range timesAtOnce {
			wrong = cmp.Or(wrong, w.wrongBound(c, p))
		}

		return wrong
	})
}

// wrongBound makes one call more than allowed, and returns "" if exactly one
// fails.
func (w *world) wrongBound(c *caller, p fixtures.Policy) string {
	room := w.look().Room(c.spec, p) * p.Most
	if room == 0 {
		return ""
	}

	ctx, cancel := context.WithTimeout(context.Background(), check.Deadline)
	defer cancel()

	var mu sync.Mutex
	var failed []error
	served := map[string]int{}

	var calls sync.WaitGroup
	for range room + 1 {
		calls.Go(func() {
			from, err := fixtures.Ask(ctx, c.clients.shop, fixtures.Who)
			mu.Lock()
			defer mu.Unlock()

			served[w.addressOf(from)]++

			if err != nil {
				failed = append(failed, err)
			}
		})
	}

	calls.Wait()
	delete(served, "")

	for addr, n := range served {
		if n > p.Most {
			return fmt.Sprintf("%s had %d calls at once, want at most %d", addr, n,
				p.Most)
		}
	}

	if len(failed) != 1 {
		return fmt.Sprintf(
			"failures of %d calls at once with a limit of %d: %v, want exactly 1", room+1,
			room, failed)
	}

	return ""
}
