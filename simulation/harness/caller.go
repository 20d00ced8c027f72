package harness

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	_ "github.com/etcdrpc/protoc-gen-go-etcd/outlierdetection" // some configs need it
	"github.com/etcdrpc/protoc-gen-go-etcd/runtime"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/check"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/fixtures"
	"github.com/etcdrpc/protoc-gen-go-etcd/simulation/network"
)

// idleTimeout is short, so that connections to the shop close and reopen
// between calls.
const idleTimeout = 4 * time.Second

// Bounds for stopping a caller, which has no entries to withdraw.
const (
	// closeTimeout bounds the context of Registry.Close.
	closeTimeout = time.Second

	// closesWithin bounds Registry.Close.
	closesWithin = 200 * time.Millisecond

	// endsWithin bounds the end of calls and watches, from the start of
	// Registry.Close.
	endsWithin = 400 * time.Millisecond
)

// start starts the caller, and reports false if the caller runs already. With
// offline set, the caller cannot reach etcd.
func (c *caller) start(offline bool) (begun bool) {
	c.do(func() {
		if c.end != nil {
			return
		}

		begun = true
		c.begin()
		c.connect()

		if offline {
			c.w.setLine(c.from, network.Link{Cut: true})
		}

		c.open(append(c.openFallback(), runtime.WithZone(c.spec.Zone),
			runtime.WithSnapshotDir(c.snapshots.dir))...)
		c.clients = c.dial()
		c.under = new(sync.WaitGroup)
		ctx, end := context.WithCancel(context.Background())
		c.end = end

		c.mu.Lock()
		c.watched = nil
		c.watchErr = nil
		c.live = c.registry
		c.mu.Unlock()

		random := rand.New(rand.NewPCG(c.w.schedule.Seed,
			uint64(c.index)<<32+uint64(c.incarnation)))
		c.under.Go(func() { c.watch(ctx) })
		c.under.Go(func() { c.traffic(ctx, random) })
	})

	return begun
}

// dial makes the clients of an incarnation.
func (c *caller) dial() clients {
	options := append(c.dialOptions(), grpc.WithIdleTimeout(idleTimeout))
	if c.spec.Subset > 0 {
		options = append(options, runtime.WithSubset(c.spec.Subset))
	}

	if c.spec.Own != "" {
		options = append(options, runtime.WithDefaultServiceConfig(c.spec.Own))
	}

	shop, err := c.registry.NewClient(c.w.read(fixtures.Shop(c.spec.Policy)), options...)
	must(err)

	user, err := c.registry.NewClient(c.w.read(fixtures.User()), c.dialOptions()...)
	must(err)

	instances, err := c.registry.NewInstances(c.w.read(fixtures.Shop("")),
		c.dialOptions()...)
	must(err)

	follows := manual.NewBuilderWithScheme("plain")
	options = append(c.dialOptions(),
		grpc.WithResolvers(follows),
		grpc.WithIdleTimeout(0), // plain is used rarely
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	plain, err := grpc.NewClient("plain:///shop", options...)
	must(err)
	plain.Connect()

	return clients{shop, user, instances, plain, follows}
}

// asked returns the layout that callers must request, nil if they read all
// entries by default.
func (w *world) asked() runtime.Layout {
	if w.schedule.Suffixed() {
		return runtime.LeaseSuffix
	}

	return nil
}

// read returns a service with the layout that callers request.
func (w *world) read(desc *runtime.ServiceDesc) *runtime.ServiceDesc {
	desc.Layout = w.asked()
	return desc
}

// watch follows the shop.
func (c *caller) watch(ctx context.Context) {
	for set, err := range c.registry.Watch(ctx, fixtures.ShopKey, c.w.asked()) {
		c.w.note("%s watches: %v %v", c.name(), fixtures.Addrs(set), err)

		c.mu.Lock()
		c.watchErr = err

		if err == nil {
			c.watched = set
		}

		c.mu.Unlock()

		var state resolver.State
		for _, addr := range fixtures.Addrs(set) {
			state.Addresses = append(state.Addresses, resolver.Address{Addr: addr})
		}

		if err == nil {
			c.clients.follows.UpdateState(state)
		}
	}
}

// stop ends the caller gracefully. If killed is set, the next incarnation does
// not find snapshots written from now on. That is the only difference: callers
// have nothing to withdraw.
func (c *caller) stop(killed bool) {
	c.do(func() {
		if c.end == nil {
			return
		}

		c.mu.Lock()
		c.live = nil
		c.mu.Unlock()

		c.end()
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()

		s := &c.snapshots
		status := keyStatus(c.registry, fixtures.ShopKey)
		s.knew = fixtures.Addrs(status.Endpoints)
		s.exact = c.w.calmSince(time.Now()) && status.Changed.After(s.spoilt)

		if killed {
			s.freeze()
		}

		fallbackFirst := c.incarnation%2 == 0 // so that both orders of closing are used
		if fallbackFirst {
			c.closeFallback(ctx)
		}

		act := check.Act{
			What:    "ending calls and watches",
			Who:     c.name(),
			Longest: endsWithin,
			Began:   time.Now(),
		}
		c.closeRegistry(ctx, closesWithin)

		if !fallbackFirst {
			c.closeFallback(ctx)
		}

		c.under.Wait()
		c.clients.plain.Close()
		c.w.acted(ctx, act)
		c.linger()
		c.end = nil
	})
}

// openFallback makes a registry of the other region and returns the option that
// uses this registry. Without another region it returns nil.
func (c *caller) openFallback() []runtime.Option {
	if c.w.other == nil {
		return nil
	}

	client, err := clientv3.New(ClientConfig(c.w.other.memberAddrs(),
		grpc.WithContextDialer(c.w.network.Dialer(c.from))))
	must(err) // without a password, New makes no request, so it does not fail

	// this client stays open as long as the client of the own region
	disconnect := c.disconnect
	c.disconnect = func() {
		disconnect()
		client.Close()
	}

	c.fallback = runtime.NewRegistry(client, runtime.WithEmptyGrace(grace),
		runtime.WithLogger(slog.New(slog.DiscardHandler)))

	return []runtime.Option{runtime.WithFallback(c.fallback)}
}

// closeFallback closes the registry of the other region.
func (c *caller) closeFallback(ctx context.Context) {
	if c.fallback == nil {
		return
	}

	act := check.Act{
		What:    "Registry.Close of the fallback registry",
		Who:     c.name(),
		Longest: closesWithin,
	}
	if err := c.w.act(ctx, act, c.fallback.Close, nil); err != nil {
		c.w.report(check.Returns,
			"Registry.Close of the fallback registry of %s: %v, want nil", c.name(),
			err)
	}
}
