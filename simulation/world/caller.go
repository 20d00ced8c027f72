package world

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// caller is a process that calls the services, watches one, and lists its instances.
type caller struct {
	process
	spec  schedule.Caller
	turn  chan struct{}
	calls atomic.Int64

	shop, user *grpc.ClientConn
	instances  *runtime.Instances
	end        context.CancelFunc
	under      *sync.WaitGroup // calls and watches

	news    error              // what it has yielded since
	watched []runtime.Endpoint // the last set that the watch has yielded
	idle    bool
	live    *runtime.Registry
}

func newCaller(w *World, index int, spec schedule.Caller) *caller {
	return &caller{process: newProcess(w, index), spec: spec, turn: make(chan struct{}, 1)}
}

func (c *caller) do(f func()) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	f()
}

func (c *caller) start(ctx context.Context) {
	c.do(func() {
		if c.end != nil {
			return
		}
		c.begin()
		c.open(runtime.WithZone(c.spec.Zone))
		options := c.dialOptions()
		if c.spec.Subset > 0 {
			options = append(options, runtime.WithSubset(c.spec.Subset))
		}
		var errs [3]error
		c.shop, errs[0] = c.registry.NewClient(describe(shopName, shopKey, c.spec.Policy), append(options, grpc.WithIdleTimeout(4*time.Second))...)
		c.user, errs[1] = c.registry.NewClient(describe(userName, userKey, ""), c.dialOptions()...)
		c.instances, errs[2] = c.registry.NewInstances(describe(shopName, shopKey, ""), c.dialOptions()...)
		for _, err := range errs {
			if err != nil {
				panic(err)
			}
		}
		ctx, c.end = context.WithCancel(ctx)
		c.under = new(sync.WaitGroup)
		c.mu.Lock()
		c.watched, c.news, c.live = nil, nil, c.registry
		c.mu.Unlock()
		registry, shop, user, instances, life := c.registry, c.shop, c.user, c.instances, c.life
		c.under.Go(func() { c.watch(ctx, registry) })
		c.under.Go(func() { c.traffic(ctx, registry, shop, user, instances, c.w.random(uint64(c.index)<<32+uint64(life))) })
	})
}

// running returns the registry, nil while the caller is down, for those who do not hold the turn.
func (c *caller) running() *runtime.Registry {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.live
}

func (c *caller) watch(ctx context.Context, registry *runtime.Registry) {
	for set, err := range registry.Watch(ctx, shopKey) {
		c.w.note("%s watches: %v %v", c.name(), addrsOf(set), err)
		c.mu.Lock()
		if c.news = err; err == nil {
			c.watched = set
		}
		c.mu.Unlock()
	}
}

const (
	// pause is how long a caller waits between calls, on average.
	pause = 700 * time.Millisecond
	// deadline is how long a call may take.
	deadline = 2500 * time.Millisecond
)

// traffic calls until ctx ends.
func (c *caller) traffic(ctx context.Context, registry *runtime.Registry, shop, user *grpc.ClientConn, instances *runtime.Instances, r *rand.Rand) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(r.Int64N(int64(2 * pause)))):
		}
		c.mu.Lock()
		idle := c.idle
		c.mu.Unlock()
		switch n := r.IntN(16); {
		case idle:
		case n == 0:
			c.call(ctx, registry, user, userKey, userMethod, "")
		case n == 1 || n == 5 || n == 6:
			c.call(ctx, registry, shop, shopKey, newer, "")
		case n == 2:
			if t := c.target(registry, r); t != "" {
				c.call(ctx, registry, shop, shopKey, who, t)
			}
		case n == 3:
			c.callEach(ctx, registry, instances)
		case n == 4:
			c.call(runtime.WithAffinity(ctx, string(rune('a'+r.IntN(8)))), registry, shop, shopKey, who, "")
		default:
			c.call(ctx, registry, shop, shopKey, who, "")
		}
	}
}

const userMethod = user

// target returns the id of an instance that the caller knows, "" if it knows none.
func (c *caller) target(registry *runtime.Registry, r *rand.Rand) string {
	known := endpoints(registry, shopKey)
	if len(known) == 0 {
		return ""
	}
	return known[r.IntN(len(known))].Instance
}

// call makes a call and has the judge hear of it. It returns the life that has answered, "" if none has.
func (c *caller) call(ctx context.Context, registry *runtime.Registry, conn grpc.ClientConnInterface, key, method, target string) (from string) {
	record := c.prepare(registry, key, key, method, target)
	bounded, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	if target != "" {
		bounded = runtime.WithTarget(bounded, target)
	}
	from, err := ask(bounded, conn, method)
	if ctx.Err() == nil { // else the caller ends
		c.judge(record, from, err)
	}
	return from
}

// prepare notes what the caller knows as a call begins.
func (c *caller) prepare(registry *runtime.Registry, conn, key, method, target string) check.Call {
	life, _ := c.now()
	call := check.Call{Caller: c.name(), Conn: fmt.Sprintf("%s of life %d", conn, life), Method: method, Target: target, Begin: time.Now(), Registered: c.w.registered(key), Lately: c.w.lately(key)}
	if target == "" && key == shopKey {
		call.Subset = c.spec.Subset
	}
	call.Settled = key == shopKey && c.w.settled() && !c.w.disturbed(c.index, time.Since(c.w.began)-promptly)
	call.Drained = c.w.drainedNames()
	status := keyStatus(registry, key)
	call.Held = status.Held > 0
	for _, ep := range status.Endpoints {
		if ep.Instance == target {
			call.TargetAddr = ep.Addr
		}
		call.Known = append(call.Known, ep.Addr)
	}
	return call
}

func (c *caller) judge(call check.Call, from string, err error) {
	c.calls.Add(1)
	call.End, call.From, call.Code = time.Now(), from, status.Code(err)
	if err != nil {
		call.Err = err.Error()
	}
	c.w.note("%s %s %q: %q %v", c.name(), call.Method, call.Target, from, call.Code)
	c.w.observe(func(j *check.Judge) { j.Call(call) })
}

// callEach calls every instance by itself.
func (c *caller) callEach(ctx context.Context, registry *runtime.Registry, instances *runtime.Instances) {
	bounded, cancel := context.WithTimeout(ctx, deadline)
	all, err := instances.All(bounded)
	cancel()
	if err != nil || ctx.Err() != nil {
		return
	}
	for _, i := range all {
		record := c.prepare(registry, "instances", shopKey, who, i.Instance)
		bounded, cancel := context.WithTimeout(ctx, deadline)
		from, err := ask(bounded, i.Conn, who)
		cancel()
		if ctx.Err() != nil {
			return
		}
		c.judge(record, from, err)
	}
}

func keyStatus(registry *runtime.Registry, key string) runtime.KeyStatus {
	keys := registry.Status().Keys
	if i := slices.IndexFunc(keys, func(k runtime.KeyStatus) bool { return k.Key == key }); i >= 0 {
		return keys[i]
	}
	return runtime.KeyStatus{}
}

func endpoints(registry *runtime.Registry, key string) []runtime.Endpoint {
	return keyStatus(registry, key).Endpoints
}

// rest has the caller make no calls for a time.
func (c *caller) rest(d time.Duration) {
	set := func(idle bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.idle = idle
	}
	set(true)
	time.Sleep(d)
	set(false)
}

// stop ends the process in order; a caller has no word to give, so kill is the same to others.
func (c *caller) stop(ctx context.Context) {
	c.do(func() {
		if c.end == nil {
			return
		}
		c.mu.Lock()
		c.live = nil
		c.mu.Unlock()
		c.end()
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		began := time.Now()
		c.registry.Close(ctx)
		c.bound(ctx, began, "Registry.Close", slack) // it has nothing to withdraw
		c.under.Wait()
		c.bound(ctx, began, "ending calls and watches", 2*slack)
		c.client.Close()
		c.vanish()
		c.end = nil
	})
}

func (c *caller) kill(ctx context.Context) { c.stop(ctx) }
