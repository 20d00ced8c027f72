package world

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

// caller is a process that calls the services, watches one, and lists its instances.
type caller struct {
	process
	spec    schedule.Caller
	clients clients
	calls   atomic.Int64
	end     context.CancelFunc // nil: the caller is down
	under   *sync.WaitGroup    // calls and watches under way

	// Under mu:
	watched  []runtime.Endpoint // the last set that the watch has yielded
	watchErr error              // that the watch has yielded since
	idle     bool
	live     *runtime.Registry // nil: the caller is down
}

// clients are those that a life of a caller has.
type clients struct {
	registry   *runtime.Registry
	shop, user *grpc.ClientConn
	instances  *runtime.Instances // of the shop
}

func newCaller(w *World, index int, spec schedule.Caller) *caller {
	return &caller{process: newProcess(w, index), spec: spec}
}

// idleTimeout is how long the connections to the shop stay open without calls. It is short, so that they close and open again.
const idleTimeout = 4 * time.Second

// How a caller stops. It has nothing to withdraw.
const (
	// closeTimeout bounds the context of Registry.Close.
	closeTimeout = time.Second
	// closesWithin is how long Registry.Close may take.
	closesWithin = 200 * time.Millisecond
	// endsWithin is how long calls and watches may take to end, from the beginning of Registry.Close.
	endsWithin = 400 * time.Millisecond
)

func (c *caller) start(ctx context.Context) {
	c.do(func() {
		if c.end != nil {
			return
		}
		c.begin()
		c.w.observe(func(j *check.Judge) { j.Begin(c.name()) })
		c.open(runtime.WithZone(c.spec.Zone))
		clients := c.dial()
		c.clients = clients
		ctx, c.end = context.WithCancel(ctx)
		c.under = new(sync.WaitGroup)
		c.mu.Lock()
		c.watched, c.watchErr, c.live = nil, nil, c.registry
		c.mu.Unlock()
		random := c.w.random(uint64(c.index)<<32 + uint64(c.life))
		c.under.Go(func() { c.watch(ctx, clients.registry) })
		c.under.Go(func() { c.traffic(ctx, clients, random) })
	})
}

// dial makes the clients of a life.
func (c *caller) dial() clients {
	options := append(c.dialOptions(), grpc.WithIdleTimeout(idleTimeout))
	if c.spec.Subset > 0 {
		options = append(options, runtime.WithSubset(c.spec.Subset))
	}
	shop, err := c.registry.NewClient(describeShop(c.spec.Policy), options...)
	if err != nil {
		panic(err)
	}
	user, err := c.registry.NewClient(describe(userName, userKey, ""), c.dialOptions()...)
	if err != nil {
		panic(err)
	}
	instances, err := c.registry.NewInstances(describe(shopName, shopKey, ""), c.dialOptions()...)
	if err != nil {
		panic(err)
	}
	return clients{c.registry, shop, user, instances}
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
		if c.watchErr = err; err == nil {
			c.watched = set
		}
		c.mu.Unlock()
	}
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

// stop ends the process in order. It has nothing to withdraw, so nobody else can tell this from being killed.
func (c *caller) stop(ctx context.Context) {
	c.do(func() {
		if c.end == nil {
			return
		}
		c.mu.Lock()
		c.live = nil
		c.mu.Unlock()
		c.end()
		ctx, cancel := context.WithTimeout(ctx, closeTimeout)
		defer cancel()
		began := time.Now()
		c.registry.Close(ctx)
		c.bound(ctx, began, "Registry.Close", closesWithin)
		c.under.Wait()
		c.bound(ctx, began, "ending calls and watches", endsWithin)
		c.client.Close()
		c.vanish()
		c.end = nil
	})
}

func keyStatus(registry *runtime.Registry, key string) runtime.KeyStatus {
	keys := registry.Status().Keys
	if i := slices.IndexFunc(keys, func(k runtime.KeyStatus) bool { return k.Key == key }); i >= 0 {
		return keys[i]
	}
	return runtime.KeyStatus{}
}
