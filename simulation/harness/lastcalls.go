package harness

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// callAtLast has each caller call, once everything else is as it should be, in every way in which its calls are to go somewhere,
// and reports those that do not go there within a bound.
func (t *trial) callAtLast(ctx context.Context) {
	for _, judge := range []func(context.Context, *caller){
		t.callShared, t.callAtOnce, t.callLanes, t.callAffine, t.callTargets, t.callLeaders, t.countConnections,
	} {
		for _, c := range t.callers {
			judge(ctx, c)
		}
	}
}

// reconnecting is how long a connection may wait before it is tried again: gRPC's longest backoff, with its jitter.
const reconnecting = 150 * time.Second

// atLast looks every second at what is wrong with calls of a caller, until nothing is or connections must have been made again.
// It reports what it has seen last.
func (t *trial) atLast(promise, who string, look func() string) {
	wrong := ""
	for end := time.Now().Add(reconnecting); time.Now().Before(end); time.Sleep(time.Second) {
		if wrong = look(); wrong == "" {
			return
		}
	}
	t.report(promise, "%s: %s", who, wrong)
}

// callShared judges that calls are shared out as configured.
func (t *trial) callShared(ctx context.Context, c *caller) {
	t.atLast(check.Shared, c.name(), func() string {
		l := t.look(ctx)
		served := make(map[string]int)
		n := check.Rounds * len(l.Registered())
		for range n {
			if from := c.call(ctx, c.clients, acme.Who, ""); from != "" {
				served[t.addressOf(from)]++
			}
		}
		return l.WrongShares(c.spec, served, n)
	})
}

// callLanes judges that calls in lanes reach the lanes' instances, if the policy has routes.
func (t *trial) callLanes(ctx context.Context, c *caller) {
	if p, known := t.policy(ctx, c); known && len(p.Routes) > 0 {
		for _, lane := range lanes {
			t.atLast(check.Lanes, c.name(), func() string { return t.wrongLane(ctx, c, p, lane) })
		}
	}
}

// policy returns the policy in force of a caller, if it is known.
func (t *trial) policy(ctx context.Context, c *caller) (p acme.Policy, known bool) {
	config, known := t.look(ctx).Policy(c.spec.Config())
	p, err := acme.ParsePolicy(config)
	return p, known && err == nil
}

// wrongLane describes a call of a lane that was not answered by an instance of it, "" if each was. Where a route is strict,
// a call may fail while instances of other lanes are ready, and one that nobody is to answer may wait for its deadline.
func (t *trial) wrongLane(ctx context.Context, c *caller, p acme.Policy, lane string) string {
	l := t.look(ctx)
	methods, known := l.Methods(c.spec.Config())
	want, waits := l.Lane(p.Routes, lane), methods.Waits || !known
	if len(want) == 0 && t.other != nil { // a lane that is strict leaves, too
		want = t.other.look(ctx).Lane(p.Routes, lane)
	}
	for range len(l.Serving()) + 1 {
		call := c.prepare(acme.ShopKey, acme.Who, "")
		call.Plain = false
		from, code := c.ask(runtime.WithLane(ctx, lane), c.clients.shop, call)
		switch addr := t.addressOf(from); {
		case len(want) == 0 && code != codes.Unavailable && !(waits && code == codes.DeadlineExceeded):
			return fmt.Sprintf("a call in %s, which has no instance, ended with %v at %q", lane, code, from)
		case len(want) > 0 && !slices.Contains(want, addr):
			return fmt.Sprintf("a call in %s went to %q (%v), and not to one of %v", lane, addr, code, want)
		}
	}
	return ""
}

// callsOfOne is how many calls are made with one affinity, to see whether they reach one instance.
const callsOfOne = 3

// callAffine judges that calls of one affinity reach one instance, if the policy goes by affinities.
func (t *trial) callAffine(ctx context.Context, c *caller) {
	if p, known := t.policy(ctx, c); known && p.Tied {
		t.atLast(check.Affine, c.name(), func() string { return c.scattered(ctx) })
	}
}

// scattered describes an affinity whose calls reach several instances, "" if there is none.
func (c *caller) scattered(ctx context.Context) string {
	for _, affinity := range affinities {
		first := ""
		for n := range callsOfOne {
			from := c.call(runtime.WithAffinity(ctx, affinity), c.clients, acme.Who, "")
			if n == 0 {
				first = from
			}
			if from != first || from == "" {
				return fmt.Sprintf("calls with the affinity %s were answered by %q and %q", affinity, first, from)
			}
		}
	}
	return ""
}

// callTargets judges that each instance of the shop is reached by its name.
func (t *trial) callTargets(ctx context.Context, c *caller) {
	for _, addr := range t.entries().Registered() {
		t.atLast(check.Reached, c.name(), func() string { return t.wrongTarget(ctx, c, addr) })
	}
}

// wrongTarget describes how a call to the instance at an address went wrong, "" if it did not.
func (t *trial) wrongTarget(ctx context.Context, c *caller, addr string) string {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	all, err := c.clients.instances.All(bounded)
	if err != nil {
		return fmt.Sprintf("its instances: %v", err)
	}
	i := slices.IndexFunc(all, func(i runtime.Instance) bool { return i.Addr == addr })
	if i < 0 {
		return fmt.Sprintf("%s is none of its instances", addr)
	}
	name := all[i].Instance
	if !t.entries().Named(name, addr) {
		return fmt.Sprintf("it takes %q for the name of %s", name, addr)
	}
	if from := t.addressOf(c.call(ctx, c.clients, acme.Who, name)); from != addr {
		return fmt.Sprintf("a call to %q at %s was answered by %q", name, addr, from)
	}
	return ""
}

// callLeaders judges that calls for the leader reach it, if there is one.
func (t *trial) callLeaders(ctx context.Context, c *caller) {
	leader := t.election.leader()
	if leader == nil {
		return
	}
	t.atLast(check.Led, c.name(), func() string {
		if from := c.askLeader(ctx, c.clients); from != leader.id {
			return fmt.Sprintf("%s leads, and a call for the leader was answered by %q", leader.id, from)
		}
		return ""
	})
}

// mostConnections is how many a caller may have to a server: one for each of its clients, the plain one among them, and one of a policy that is not ours.
const mostConnections = 5

// countConnections reports a caller with more connections to a server than it has clients.
func (t *trial) countConnections(_ context.Context, c *caller) {
	for i := range t.servers {
		if n := t.network.Connections(c.from, t.plan.Host(i)); n > mostConnections*t.plan.Servers[i].Servers() {
			t.report(check.LeftBehind, "%s has %d connections to %s", c.name(), n, t.plan.Name(i))
		}
	}
}

// alone has a caller make no other calls, and changes its links to all servers, until the returned function is called.
func (c *caller) alone(link network.Link) (end func()) {
	c.idle.Store(true)
	c.setLinks(c.from, link)
	c.setAway(link)
	return func() {
		c.setLinks(c.from, network.Link{})
		c.setAway(network.Link{})
		c.idle.Store(false)
	}
}
