package harness

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin" // for configs to name it
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection" // likewise
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/acme"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/schedule"
)

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

func (c *caller) start(ctx context.Context) { c.begins(ctx, false) }

// begins starts the caller, and reports false if another step has done so. If it is alone, it cannot reach etcd once it has a client.
func (c *caller) begins(ctx context.Context, alone bool) (begun bool) {
	c.do(func() {
		if c.end != nil {
			return
		}
		begun = true
		c.begin()
		c.connect()
		if alone {
			c.setLine(c.from, network.Link{Cut: true})
		}
		c.open(append(c.fallBack(), runtime.WithZone(c.spec.Zone), runtime.WithSnapshotDir(c.snapshots.dir))...)
		clients := c.dial()
		c.clients = clients
		ctx, c.end = context.WithCancel(ctx)
		c.under = new(sync.WaitGroup)
		c.mu.Lock()
		c.watched, c.watchErr, c.live = nil, nil, c.registry
		c.mu.Unlock()
		random := rand.New(rand.NewPCG(c.w.plan.Seed, uint64(c.index)<<32+uint64(c.life)))
		c.under.Go(func() { c.watch(ctx, clients) })
		c.under.Go(func() { c.traffic(ctx, clients, random) })
	})
	return begun
}

// dial makes the clients of a life.
func (c *caller) dial() clients {
	options := append(c.dialOptions(), grpc.WithIdleTimeout(idleTimeout))
	if c.spec.Subset > 0 {
		options = append(options, runtime.WithSubset(c.spec.Subset))
	}
	if c.spec.Own != "" {
		options = append(options, runtime.WithDefaultServiceConfig(c.spec.Own))
	}
	shop, err := c.registry.NewClient(acme.Shop(c.spec.Policy), options...)
	must(err)
	user, err := c.registry.NewClient(acme.User(), c.dialOptions()...)
	must(err)
	instances, err := c.registry.NewInstances(acme.Shop(""), c.dialOptions()...)
	must(err)
	plain, follows := c.dialPlain()
	return clients{c.registry, shop, user, instances, plain, follows}
}

// dialPlain makes a client that gRPC's own policy has call the addresses that it is told.
func (c *caller) dialPlain() (*grpc.ClientConn, *manual.Resolver) {
	follows := manual.NewBuilderWithScheme("plain")
	options := append(c.dialOptions(), grpc.WithResolvers(follows), grpc.WithIdleTimeout(idleTimeout),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	plain, err := grpc.NewClient("plain:///shop", options...)
	must(err)
	plain.Connect()
	return plain, follows
}

// watch follows the shop.
func (c *caller) watch(ctx context.Context, via clients) {
	for set, err := range via.registry.Watch(ctx, acme.ShopKey) {
		c.w.note("%s watches: %v %v", c.name(), acme.Addrs(set), err)
		c.mu.Lock()
		if c.watchErr = err; err == nil {
			c.watched = set
		}
		c.mu.Unlock()
		var state resolver.State
		for _, addr := range acme.Addrs(set) {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: addr})
		}
		if err == nil {
			via.follows.UpdateState(state)
		}
	}
}

// stop ends the process in order. It has nothing to withdraw, so nobody else can tell this from being killed.
func (c *caller) stop(ctx context.Context) { c.stops(ctx, false) }

// stops ends the process, in order but for what it would write if it were not killed.
func (c *caller) stops(ctx context.Context, killed bool) {
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
		act := check.Act{What: "ending calls and watches", Who: c.name(), Began: time.Now()}
		c.noteKnown()
		if killed {
			defer c.snapshots.keep()()
		}
		if c.life%2 == 0 { // either may be closed first
			c.closeFallback(ctx)
			act.Began = time.Now()
			_ = c.closeRegistry(ctx, closesWithin) // it is judged there
		} else {
			_ = c.closeRegistry(ctx, closesWithin) // likewise
			c.closeFallback(ctx)
		}
		c.under.Wait()
		c.clients.plain.Close()
		c.w.acted(ctx, endsWithin, act)
		c.linger()
		c.end = nil
	})
}

// startsRefused restarts a caller, whose next life lacks a right for a time.
func (c *caller) startsRefused(ctx context.Context, r *rights, s schedule.Step) {
	c.stop(ctx)
	restore := r.refuse(s.Who, s.Text)
	c.start(ctx)
	time.Sleep(s.For)
	restore()
}
