package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
)

const (
	// pause is how long a caller waits between calls, on average.
	pause = 700 * time.Millisecond
	// deadline is how long a call may take.
	deadline = 2500 * time.Millisecond
	// plainCalls is how many of the ways to call are plain ones.
	plainCalls = 9
	// affinities is how many keys calls with an affinity have.
	affinities = 8
)

// way is a way to call.
type way func(c *caller, ctx context.Context, via clients, r *rand.Rand)

// ways holds the ways to call, each as often as it is drawn. More than half of the calls are plain ones of the shop.
var ways = append([]way{
	calling(userWho), calling(shopWhoNewer), (*caller).callOne, (*caller).callEach, (*caller).callAffine, (*caller).callInLane, (*caller).callLeader, calling(shopWhoNewer), calling(shopWhoNewer),
}, slices.Repeat([]way{calling(shopWho)}, plainCalls)...)

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
		case <-time.After(time.Duration(r.Int64N(int64(2 * pause)))):
		}
		c.mu.Lock()
		idle := c.idle
		c.mu.Unlock()
		if call := ways[r.IntN(len(ways))]; !idle {
			call(c, ctx, via, r)
		}
	}
}

// callOne calls one instance of the shop by its id.
func (c *caller) callOne(ctx context.Context, via clients, r *rand.Rand) {
	if target := someInstance(via.registry, r); target != "" {
		c.call(ctx, via, shopWho, target)
	}
}

// callAffine calls the shop with an affinity.
func (c *caller) callAffine(ctx context.Context, via clients, r *rand.Rand) {
	c.call(runtime.WithAffinity(ctx, affinityNamed(r.IntN(affinities))), via, shopWho, "")
}

func affinityNamed(i int) string { return string(rune('a' + i)) }

// someInstance returns the id of an instance of the shop that the registry knows, "" if it knows none.
func someInstance(registry *runtime.Registry, r *rand.Rand) string {
	known := keyStatus(registry, shopKey).Endpoints
	if len(known) == 0 {
		return ""
	}
	return known[r.IntN(len(known))].Instance
}

// call makes a call and has the judge hear of it. It returns the life that has answered, "" if none has.
func (c *caller) call(ctx context.Context, via clients, method, target string) (from string) {
	key, conn := shopKey, via.shop
	if method == userWho {
		key, conn = userKey, via.user
	}
	record := c.prepare(via.registry, key, key, method, target)
	if key == shopKey {
		record.Longest = c.w.longestWait(c.spec.Policy, record.Settled)
	}
	if key == shopKey && target == "" {
		record.Subset = c.w.subset(c.spec)
	}
	if target != "" {
		ctx = runtime.WithTarget(ctx, target)
	}
	from, _ = c.ask(ctx, conn, record)
	return from
}

// callEach calls every instance of the shop by itself.
func (c *caller) callEach(ctx context.Context, via clients, _ *rand.Rand) {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	all, err := via.instances.All(bounded)
	cancel()
	if err != nil || ctx.Err() != nil {
		return
	}
	c.listed(all)
	for _, i := range all {
		if ctx.Err() != nil {
			return
		}
		c.ask(ctx, i.Conn, c.prepare(via.registry, "instances", shopKey, shopWho, i.Instance))
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
		Drained: c.w.drainedNames(),
		Deaf:    c.w.deafSince(from),
		Routed:  c.w.routed(c.spec.Policy),
		Settled: key == shopKey && c.w.quiet() && !c.w.disturbed(c.index, time.Since(c.w.began)-promptly),
	}
	call.Known = addrsOf(keyStatus(registry, key).Endpoints)
	return call
}

// ask makes the call, and has the judge hear how it ended, unless the caller ends meanwhile.
func (c *caller) ask(ctx context.Context, conn grpc.ClientConnInterface, call check.Call) (from string, code codes.Code) {
	ended := c.send(ctx, conn, call)
	if ctx.Err() == nil {
		c.w.observe(func(j *check.Judge) { j.Call(ended) })
	}
	return ended.From, ended.Code
}

// send makes the call and returns how it ended.
func (c *caller) send(ctx context.Context, conn grpc.ClientConnInterface, call check.Call) check.Call {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	from, err := ask(bounded, conn, call.Method)
	call.End, call.From, call.Code = time.Now(), from, status.Code(err)
	if ctx.Err() != nil {
		return call
	}
	c.calls.Add(1)
	if _, host := c.current(); c.w.deafSince(host) != call.Deaf {
		call.Deaf = time.Time{} // it may have heard meanwhile
	}
	if err != nil {
		call.Err = err.Error()
	}
	c.w.note("%s %s %q: %q %v", c.name(), call.Method, call.Target, from, call.Code)
	return call
}
