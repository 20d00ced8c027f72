package harness

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// caller is a process that calls the services, and watches and lists the
// instances of the shop.
type caller struct {
	*process
	spec      schedule.Caller
	clients   clients
	snapshots snapshots
	end       context.CancelFunc // nil: the caller is down
	under     *sync.WaitGroup    // calls and watches under way
	idle      atomic.Bool        // the caller makes no calls
	fallback  *runtime.Registry  // the registry of the other region, or nil

	// Under mu:
	watched  []runtime.Endpoint // the last set that the watch has yielded
	watchErr error              // the error since that set, or nil
}

// clients are the clients of one incarnation of a caller.
type clients struct {
	shop, user *grpc.ClientConn
	instances  *runtime.Instances // the instances of the shop
	plain      *grpc.ClientConn   // to the watched addresses, with gRPC's round_robin
	follows    *manual.Resolver   // the resolver of plain
}

const (
	// betweenCalls is the mean pause of a caller between calls.
	betweenCalls = time.Second

	// plainCalls is the number of times that callPlain is in ways.
	plainCalls = 9
)

// The affinities and the lanes of calls. The last lane has no instance.
var (
	affinities = []string{"a", "b", "c", "d", "e", "f", "g", "h"}
	lanes      = []string{"v1", "v2", "v3"}
)

// way is a way to call.
type way func(c *caller, ctx context.Context, r *rand.Rand)

// ways holds the ways to call, each repeated by its frequency.
var ways = append([]way{
	calling(fixtures.UserWho),
	calling(fixtures.WhoNewer),
	(*caller).callOne,
	(*caller).callEach,
	callingWith(runtime.WithAffinity, affinities),
	callingWith(runtime.WithLane, lanes),
	calling(fixtures.Lead),
	calling(fixtures.WhoNewer),
	calling(fixtures.WhoNewer),
}, slices.Repeat([]way{(*caller).callPlain}, plainCalls)...)

// calling returns a way to call a method of any instance.
func calling(method string) way {
	return func(c *caller, ctx context.Context, _ *rand.Rand) { c.call(ctx, method, "") }
}

// callingWith returns a way to call the shop with one of the affinities or
// lanes. Calls of a strict lane may fail more often than other calls.
func callingWith(set func(context.Context, string) context.Context, all []string) way {
	return func(c *caller, ctx context.Context, r *rand.Rand) {
		c.call(set(ctx, all[r.IntN(len(all))]), fixtures.Who, "")
	}
}

// traffic makes calls until ctx ends, each in a random way.
func (c *caller) traffic(ctx context.Context, r *rand.Rand) {
	for pause(ctx, time.Duration(r.Int64N(int64(2*betweenCalls)))) {
		call := ways[r.IntN(len(ways))]
		if !c.idle.Load() {
			call(c, ctx, r)
		}
	}
}

// callOne calls one instance of the shop by its id.
func (c *caller) callOne(ctx context.Context, r *rand.Rand) {
	if known := keyStatus(c.registry, fixtures.ShopKey).Endpoints; len(known) > 0 {
		c.call(ctx, fixtures.Who, known[r.IntN(len(known))].Instance)
	}
}

// call makes a call and returns the incarnation that answered, or "".
func (c *caller) call(ctx context.Context, method, target string) (from string) {
	key := fixtures.ShopKey
	conn := c.clients.shop

	switch method {
	case fixtures.UserWho:
		key = fixtures.UserKey
		conn = c.clients.user
	case fixtures.Lead:
		key = "leader"
	}

	if target != "" {
		ctx = runtime.WithTarget(ctx, target)
	}

	from, _ = c.ask(ctx, conn, c.prepare(key, method, target), nil)

	return from
}

// callPlain makes a call that any instance may answer, and the same call under
// gRPC's round_robin.
func (c *caller) callPlain(ctx context.Context, _ *rand.Rand) {
	call := c.prepare(fixtures.ShopKey, fixtures.Who, "")
	beside := newTask(func() error {
		bounded, cancel := context.WithTimeout(ctx, check.Deadline)
		defer cancel()

		_, err := fixtures.Ask(bounded, c.clients.plain, fixtures.Who)

		return err
	})

	c.ask(ctx, c.clients.shop, call, beside)
}

// callEach calls every instance of the shop.
func (c *caller) callEach(ctx context.Context, _ *rand.Rand) {
	known := keyStatus(c.registry, fixtures.ShopKey).Known
	all, err := c.clients.list(ctx, check.Deadline)
	if err != nil && known && ctx.Err() == nil {
		c.w.report(check.Listed,
			"%s: Instances.All returned %v, want the known instances", c.name(), err)
	}

	for _, i := range all {
		if ctx.Err() == nil {
			c.ask(ctx, i.Conn, c.prepare("instances", fixtures.Who, i.Instance), nil)
		}
	}
}

// list lists the instances of the shop, within a time.
func (c clients) list(
	ctx context.Context,
	within time.Duration,
) ([]runtime.Instance, error) {
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()

	return c.instances.All(bounded)
}

func keyStatus(registry *runtime.Registry, key string) runtime.KeyStatus {
	for _, k := range registry.Status().Keys {
		if k.Key == key {
			return k
		}
	}

	return runtime.KeyStatus{}
}

// knows returns the addresses of a service in the caller's status.
func (c *caller) knows(conn string) []string {
	key := fixtures.ShopKey
	if conn == fixtures.UserKey {
		key = conn
	}

	registry := c.running()
	if registry == nil {
		return nil
	}

	return fixtures.Addrs(keyStatus(registry, key).Endpoints)
}

// prepare records the caller's view at the start of a call on a connection.
func (c *caller) prepare(conn, method, target string) check.Call {
	incarnation, _ := c.current()
	ordinary := conn == fixtures.ShopKey && target == "" && method == fixtures.Who

	return check.Call{
		Caller: c.name(),
		Conn:   fmt.Sprintf("%s of incarnation %d", conn, incarnation),
		Method: method,
		Target: target,
		Begin:  time.Now(),
		Before: c.knows(conn),
		Plain:  ordinary && c.plain(),
	}
}

// plain reports whether no policy excludes an instance from the caller's calls.
func (c *caller) plain() (plain bool) {
	c.w.record(func(h *check.History) { plain = h.Plain(c.spec) })
	return plain
}

// ask makes the call and records its outcome, unless the caller ends first.
// beside is the same call with round_robin, or nil.
func (c *caller) ask(
	ctx context.Context,
	conn grpc.ClientConnInterface,
	call check.Call,
	beside *task,
) (from string, code codes.Code) {
	bounded, cancel := context.WithTimeout(ctx, check.Deadline)
	defer cancel()

	from, err := fixtures.Ask(bounded, conn, call.Method)
	call.End = time.Now()
	call.From = from
	call.Code = status.Code(err)
	call.Abroad = strings.HasPrefix(from, schedule.AwayName)

	if err != nil {
		call.Err = err.Error()
	}

	call.After = c.knows(fixtures.ShopKey)
	call.Plain = call.Plain && c.plain()

	if beside != nil {
		// by the method's timeout, which round_robin ignores
		timedOut := call.Code == codes.DeadlineExceeded && bounded.Err() == nil
		c.w.record(func(h *check.History) {
			call.Beside = call.Plain && !timedOut && h.Even(c.spec)
		})
		call.BesideErr = beside.wait() != nil
	}

	if ctx.Err() == nil {
		c.w.note("%s %s %q: %q %v", c.name(), call.Method, call.Target, from, call.Code)
		c.w.record(func(h *check.History) { h.Calls = append(h.Calls, call) })
	}

	return from, call.Code
}
