package harness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/record"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// caller is a process that calls the services, watches one, and lists its instances.
type caller struct {
	*process
	spec      schedule.Caller
	clients   clients
	snapshots snapshots
	calls     atomic.Int64
	end       context.CancelFunc // nil: the caller is down
	under     *sync.WaitGroup    // calls and watches under way

	idle atomic.Bool // it makes no calls

	other    *trial // of the region that it falls back on; nil: there is none
	fallback fallback

	// Under mu:
	watched  []runtime.Endpoint // the last set that the watch has yielded
	watchErr error              // that the watch has yielded since
}

// clients are those that a life of a caller has.
type clients struct {
	registry   *runtime.Registry
	shop, user *grpc.ClientConn
	instances  *runtime.Instances // of the shop
}

func newCaller(w *world, other *trial, index int, spec schedule.Caller) *caller {
	return &caller{process: newProcess(w, index), spec: spec, snapshots: newSnapshots(w, index, spec), other: other}
}

const (
	// betweenCalls is how long a caller waits between calls, on average.
	betweenCalls = 700 * time.Millisecond
	// deadline is how long a call may take.
	deadline = 2500 * time.Millisecond
	// plainCalls is how many of the ways to call are plain ones.
	plainCalls = 9
)

// affinities are the keys of calls with an affinity, and lanes the lanes of calls in one. No instance is in the last lane.
var (
	affinities = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	lanes      = []string{"v1", "v2", "v3"}
)

// way is a way to call.
type way func(c *caller, ctx context.Context, via clients, r *rand.Rand)

// ways holds the ways to call, each as often as it is drawn. More than half of the calls are plain ones of the shop.
var ways = append([]way{
	calling(acme.UserWho), calling(acme.WhoNewer), (*caller).callOne, (*caller).callEach, (*caller).callAffine, (*caller).callInLane,
	(*caller).callLeader, calling(acme.WhoNewer), calling(acme.WhoNewer),
}, slices.Repeat([]way{calling(acme.Who)}, plainCalls)...)

// calling returns the way that calls a method of any instance.
func calling(method string) way {
	return func(c *caller, ctx context.Context, via clients, _ *rand.Rand) { c.call(ctx, via, method, "") }
}

// traffic calls until ctx ends, each time in a way drawn by chance.
func (c *caller) traffic(ctx context.Context, via clients, r *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(r.Int64N(int64(2 * betweenCalls)))):
		}
		if call := ways[r.IntN(len(ways))]; !c.idle.Load() {
			call(c, ctx, via, r)
		}
	}
}

// callOne calls one instance of the shop by its id.
func (c *caller) callOne(ctx context.Context, via clients, r *rand.Rand) {
	if target := someInstance(via.registry, r); target != "" {
		c.call(ctx, via, acme.Who, target)
	}
}

// callAffine calls the shop with an affinity.
func (c *caller) callAffine(ctx context.Context, via clients, r *rand.Rand) {
	c.call(runtime.WithAffinity(ctx, affinities[r.IntN(len(affinities))]), via, acme.Who, "")
}

// someInstance returns the id of an instance of the shop that the registry knows, "" if it knows none.
func someInstance(registry *runtime.Registry, r *rand.Rand) string {
	known := keyStatus(registry, acme.ShopKey).Endpoints
	if len(known) == 0 {
		return ""
	}
	return known[r.IntN(len(known))].Instance
}

// call makes a call and has the judge hear of it. It returns the life that has answered, "" if none has.
func (c *caller) call(ctx context.Context, via clients, method, target string) (from string) {
	key, conn := acme.ShopKey, via.shop
	if method == acme.UserWho {
		key, conn = acme.UserKey, via.user
	}
	call := c.prepare(via.registry, key, key, method, target)
	if key == acme.ShopKey {
		call.Longest = c.w.LongestWait(c.spec.Config(), call.Settled)
	}
	if key == acme.ShopKey && target == "" {
		call.Subset = c.w.Subset(c.spec)
	}
	if target != "" {
		ctx = runtime.WithTarget(ctx, target)
	}
	from, _ = c.ask(ctx, conn, call)
	return from
}

// callInLane calls the shop in a lane. No call of a lane fails where others would not, unless a route is strict.
func (c *caller) callInLane(ctx context.Context, via clients, r *rand.Rand) {
	if !c.w.Strict(c.spec.Config()) {
		c.call(runtime.WithLane(ctx, lanes[r.IntN(len(lanes))]), via, acme.Who, "")
	}
}

// callLeader calls the shop's leader.
func (c *caller) callLeader(ctx context.Context, via clients, _ *rand.Rand) { c.askLeader(ctx, via) }

// askLeader calls the shop's leader. It returns the life that has answered, "" if none has.
func (c *caller) askLeader(ctx context.Context, via clients) (from string) {
	call := c.prepare(via.registry, "leader", acme.ShopKey, acme.Lead, "")
	call.Longest = c.w.LongestWait(c.spec.Config(), call.Settled)
	if !c.w.Bounds(c.spec.Config()) {
		if call.Waits = deadline; call.Longest > 0 {
			call.Waits = min(deadline, call.Longest)
		}
	}
	ended := c.send(ctx, via.shop, call)
	if ctx.Err() == nil {
		steady := c.w.election.steady(c.index, call.Begin.Add(-record.Promptly))
		c.w.Observe(func(j *check.Judge) { j.LeaderCall(ended, steady) })
	}
	return ended.From
}

// callEach calls every instance of the shop by itself.
func (c *caller) callEach(ctx context.Context, via clients, _ *rand.Rand) {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	before, began := keyStatus(via.registry, acme.ShopKey), time.Now()
	known := before.Known
	all, err := via.instances.All(bounded)
	cancel()
	if refused(before) && err != nil && ctx.Err() == nil && time.Since(began) >= deadline {
		c.w.Report(check.Listed, "%s waits for the instances, which etcd refuses it: %v", c.name(), before.Err)
	}
	if err != nil && known && ctx.Err() == nil {
		c.w.Report(check.Listed, "%s knows the instances, and lists none: %v", c.name(), err)
	}
	if err != nil || ctx.Err() != nil {
		return
	}
	c.listed(all)
	for _, i := range all {
		if ctx.Err() != nil {
			return
		}
		call := c.prepare(via.registry, "instances", acme.ShopKey, acme.Who, i.Instance)
		// Of two that have one id, as the caller sees it, the judge does not know which was meant, nor whether anybody serves that.
		call.MayFail = slices.ContainsFunc(all, func(o runtime.Instance) bool { return o.Instance == i.Instance && o.Addr != i.Addr })
		c.ask(ctx, i.Conn, call)
	}
}

// refused reports whether etcd has refused all that is asked of a key.
func refused(k runtime.KeyStatus) bool {
	return !k.Known && errors.Is(k.Err, rpctypes.ErrPermissionDenied)
}

// listed checks the list of all instances of the shop: a caller that has heard of everything lists what etcd has, and does not
// list what it only holds.
func (c *caller) listed(all []runtime.Instance) {
	now := time.Now()
	at := c.w.Now() - record.Promptly
	if at < record.Promptly || c.w.Disturbed(c.index, at) || c.w.ResetSince(now.Add(-record.Aftermath)) {
		return
	}
	var addrs []string
	for _, i := range all {
		addrs = append(addrs, i.Addr)
		if !c.w.RegisteredSince(now.Add(-record.Promptly), i.Addr) {
			c.w.Report(check.Listed, "%s lists %s, which etcd has not had for %v", c.name(), i.Addr, record.Promptly)
		}
	}
	for _, addr := range c.w.RegisteredThroughout(now.Add(-record.Promptly)) {
		if !slices.Contains(addrs, addr) {
			c.w.Report(check.Listed, "%s does not list %s, which etcd has had for %v", c.name(), addr, record.Promptly)
		}
	}
}

// prepare notes what the caller knows as a call on a connection to a service begins.
func (c *caller) prepare(registry *runtime.Registry, conn, key, method, target string) check.Call {
	life, from := c.current()
	call := check.Call{
		Caller:  c.name(),
		Conn:    fmt.Sprintf("%s of life %d", conn, life),
		Service: key,
		Method:  method,
		Target:  target,
		Begin:   time.Now(),
		Drained: c.w.Drained(),
		Deaf:    c.w.DeafSince(from),
		Routed:  c.w.Routed(c.spec.Config()) || c.w.Blind(c.spec.Config()),
		Ejects:  c.w.Ejects(c.spec.Config()),
		Spills:  c.w.Spills(c.spec.Config()),
		Settled: key == acme.ShopKey && c.w.Quiet() && !c.w.Disturbed(c.index, c.w.Now()-record.Promptly),
	}
	if (target != "" || method == acme.Lead) && c.w.Blind(c.spec.Config()) {
		call.Conn += ", by name" // a policy of others has connections of its own, for other calls
	}
	status := keyStatus(registry, key)
	call.Known = acme.Addrs(status.Endpoints)
	call.Nobody = status.Known && !status.Provisional && len(call.Known) == 0
	return call
}

// ask makes the call, and has the judge hear how it ended, unless the caller ends meanwhile.
func (c *caller) ask(ctx context.Context, conn grpc.ClientConnInterface, call check.Call) (from string, code codes.Code) {
	ended := c.send(ctx, conn, call)
	if ctx.Err() == nil {
		c.w.Observe(func(j *check.Judge) { j.Call(ended) })
	}
	return ended.From, ended.Code
}

// send makes the call and returns how it ended.
func (c *caller) send(ctx context.Context, conn grpc.ClientConnInterface, call check.Call) check.Call {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	from, err := acme.Ask(bounded, conn, call.Method)
	call.End, call.From, call.Code = time.Now(), from, status.Code(err)
	if ctx.Err() != nil {
		return call
	}
	c.calls.Add(1)
	if _, host := c.current(); c.w.DeafSince(host) != call.Deaf {
		call.Deaf = time.Time{} // it may have heard meanwhile
	}
	if err != nil {
		call.Err = err.Error()
	}
	if _, host := c.current(); c.w.HearsAgain(host) {
		call.MayFail, call.Routed = true, true
	}
	if _, ok := runtime.Lane(ctx); ok && c.w.Strict(c.spec.Config()) {
		call.MayFail = true // the route came while the call waited
	}
	if registry := c.running(); err != nil && registry != nil {
		call.Nowhere = len(call.Known)+len(keyStatus(registry, call.Service).Endpoints) == 0
	}
	c.mustCross(&call)
	c.w.Note("%s %s %q: %q %v", c.name(), call.Method, call.Target, from, call.Code)
	return call
}
